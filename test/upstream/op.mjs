// An OpenID Provider with the npm package oidc-provider, which is certified by the OpenID
// Foundation. Its pages are those that the package has for development: any password will do.
//
//   node op.mjs '{"clientID": …, "clientSecret": …, "callback": …, "accounts": {"sub": {claims}}}'
//
// Also "port" (0: any), "authMethod" of the token endpoint (client_secret_basic),
// "algorithm" of ID Tokens (RS256), and "claims": those that each scope gives. Standard
// output has a line of JSON when it is ready, {"issuer": …}, and one for every
// authorization request, {"authorization": {parameters}}. It makes new keys at each start
// and ends with its standard input.

import { generateKeyPairSync, randomBytes } from "node:crypto"
import { createServer } from "node:http"
import { Provider, interactionPolicy } from "oidc-provider"

const settings = JSON.parse(process.argv[2])
const say = message => process.stdout.write(JSON.stringify(message) + "\n")

process.stdin.on("end", () => process.exit(0)).resume()

function keys() {
  const rsa = generateKeyPairSync("rsa", { modulusLength: 2048 })
  const ec = generateKeyPairSync("ec", { namedCurve: "P-256" })
  return [rsa, ec].map(pair => pair.privateKey.export({ format: "jwk" }))
}

// The package knows no prompt=select_account unless a policy has it. Here it asks who
// somebody is, although they are signed in.
function policy() {
  const { Check, Prompt, base } = interactionPolicy
  const prompts = base()
  const selectAccount = new Prompt({ name: "select_account", requestable: true })
  selectAccount.checks.clear()
  prompts.add(selectAccount, 0)
  prompts.get("login").checks.add(new Check("select_account", "another account may be wanted",
    ({ oidc }) => oidc.prompts.has("select_account") && !oidc.result?.login))
  return prompts
}

const server = createServer()
server.listen(settings.port ?? 0, "127.0.0.1", () => {
  const { port } = server.address()
  const issuer = `http://127.0.0.1:${port}`
  const algorithm = settings.algorithm ?? "RS256"
  const provider = new Provider(issuer, {
    clients: [{
      client_id: settings.clientID,
      client_secret: settings.clientSecret,
      redirect_uris: [settings.callback],
      token_endpoint_auth_method: settings.authMethod ?? "client_secret_basic",
      id_token_signed_response_alg: algorithm,
    }],
    enabledJWA: { idTokenSigningAlgValues: [algorithm] },
    jwks: { keys: keys() },
    pkce: { required: () => true },
    claims: settings.claims ?? { openid: ["sub"], profile: ["name", "preferred_username"], email: ["email", "email_verified"] },
    findAccount: (_, sub) => settings.accounts[sub] && { accountId: sub, claims: () => ({ sub, ...settings.accounts[sub] }) },
    interactions: { policy: policy() },
    // Browsers keep cookies by host without its port, where several of these servers are.
    cookies: {
      keys: [randomBytes(32).toString("hex")],
      names: { session: `session_${port}`, interaction: `interaction_${port}`, resume: `resume_${port}` },
    },
  })
  provider.on("server_error", (_, err) => console.error(err))
  provider.on("grant.error", (_, err) => console.error(err.message, err.error_detail ?? ""))
  provider.use(async (ctx, next) => {
    await next()
    if (ctx.oidc?.route === "authorization") say({ authorization: ctx.oidc.params })
  })
  server.on("request", provider.callback())
  say({ issuer })
})
