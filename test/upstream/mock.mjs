// An OpenID Provider with the npm package oauth2-mock-server: another implementation, without
// pages. It answers at once, and can be told to answer what it must not.
//
//   node mock.mjs '{"algorithm": "ES256"}'
//
// Standard output has a line of JSON when it is ready, {"issuer": …}. Each line of standard
// input says how to answer from now on, and is acknowledged by {}:
//
//   {"token": {…}}     claims of the ID Token; null takes one away
//   {"userinfo": {…}}  the same of the userinfo endpoint
//   {"answer": {…}}    the same of the parameters that go back to the client
//
// It ends with its standard input.

import { createInterface } from "node:readline"
import { OAuth2Server } from "oauth2-mock-server"

const { algorithm } = JSON.parse(process.argv[2])
const say = message => process.stdout.write(JSON.stringify(message) + "\n")

let changes = {}
function change(object, by) {
  for (const [name, value] of Object.entries(by ?? {})) {
    if (value === null) delete object[name]
    else object[name] = value
  }
}

const server = new OAuth2Server()
await server.issuer.keys.generate(algorithm)
await server.start(0, "127.0.0.1")
server.issuer.url = `http://127.0.0.1:${server.address().port}`

server.service.on("beforeWellKnownOpenIdConfiguration", response => Object.assign(response.body, {
  id_token_signing_alg_values_supported: [algorithm],
  token_endpoint_auth_methods_supported: ["client_secret_basic"],
}))
// Access tokens are signed in the same way; only an ID Token is for the client.
server.service.on("beforeTokenSigning", token => "aud" in token.payload && change(token.payload, changes.token))
server.service.on("beforeUserinfo", response => change(response.body, changes.userinfo))
server.service.on("beforeAuthorizeRedirect", redirect => {
  const parameters = Object.fromEntries(redirect.url.searchParams)
  change(parameters, changes.answer)
  redirect.url.search = new URLSearchParams(parameters)
})

createInterface({ input: process.stdin }).on("line", line => {
  changes = JSON.parse(line)
  say({})
}).on("close", () => process.exit(0))
say({ issuer: server.issuer.url })
