// oauth4webapi, as a client and as a resource server.

import assert from "node:assert/strict"
import { before, test } from "node:test"
import * as oauth from "oauth4webapi"
import { Person } from "./person.mjs"

const { issuer, secret, callback, api } = JSON.parse(process.env.SETTINGS)
const publicClient = { client_id: "public" }

let as
before(async () => {
  const url = new URL(issuer)
  as = await oauth.processDiscoveryResponse(url, await oauth.discoveryRequest(url))
})

// authorize returns the parameters of the authorization response, unchecked.
async function authorize(client, person, parameters) {
  const verifier = oauth.generateRandomCodeVerifier()
  const url = new URL(as.authorization_endpoint)
  url.search = new URLSearchParams({
    client_id: client.client_id, redirect_uri: callback, response_type: "code", scope: "openid profile", state: "s-1", nonce: "n-1",
    code_challenge: await oauth.calculatePKCECodeChallenge(verifier), code_challenge_method: "S256", ...parameters,
  })
  return { verifier, answer: await person.authorize(url) }
}

async function redeem(client, authentication, { verifier, answer }, DPoP) {
  const parameters = oauth.validateAuthResponse(as, client, answer, "s-1")
  const response = await oauth.authorizationCodeGrantRequest(as, client, authentication, parameters, callback, verifier, { DPoP })
  const tokens = await oauth.processAuthorizationCodeResponse(as, client, response, { expectedNonce: "n-1", requireIdToken: true })
  await oauth.validateApplicationLevelSignature(as, response)
  return tokens
}

const asRequest = (token, scheme = "Bearer", headers = {}) => new Request(api + "things?a=1", { headers: { authorization: `${scheme} ${token}`, ...headers } })

test("a public client: code, PKCE and DPoP, userinfo, revocation", async () => {
  const DPoP = oauth.DPoP(publicClient, await oauth.generateKeyPair("ES256"))
  const tokens = await redeem(publicClient, oauth.None(), await authorize(publicClient, new Person(issuer, "ada"), {}), DPoP)
  assert.equal(tokens.token_type, "dpop")
  const { sub } = oauth.getValidatedIdTokenClaims(tokens)
  const userinfo = () => oauth.userInfoRequest(as, publicClient, tokens.access_token, { DPoP })
  const user = await oauth.processUserInfoResponse(as, publicClient, sub, await userinfo())
  assert.equal(user.name, "Ada")

  // Who is public is held to the key.
  const other = oauth.DPoP(publicClient, await oauth.generateKeyPair("ES256"))
  const stolen = await oauth.refreshTokenGrantRequest(as, publicClient, oauth.None(), tokens.refresh_token, { DPoP: other })
  await assert.rejects(oauth.processRefreshTokenResponse(as, publicClient, stolen))
  const renewed = await oauth.refreshTokenGrantRequest(as, publicClient, oauth.None(), tokens.refresh_token, { DPoP })
  const next = await oauth.processRefreshTokenResponse(as, publicClient, renewed)
  assert.equal(next.token_type, "dpop")

  await oauth.processRevocationResponse(await oauth.revocationRequest(as, publicClient, oauth.None(), tokens.access_token))
  await assert.rejects(userinfo().then(r => oauth.processUserInfoResponse(as, publicClient, sub, r)), oauth.WWWAuthenticateChallengeError)
  const good = await oauth.userInfoRequest(as, publicClient, next.access_token, { DPoP })
  assert.equal((await oauth.processUserInfoResponse(as, publicClient, sub, good)).sub, sub)
})

test("RFC 9207: the response names the issuer, and the client refuses one of another", async () => {
  const { answer } = await authorize(publicClient, new Person(issuer, "bob"), {})
  assert.equal(answer.searchParams.get("iss"), issuer)
  oauth.validateAuthResponse(as, publicClient, answer, "s-1")
  const mixed = new URL(answer)
  mixed.searchParams.set("iss", "https://elsewhere.example")
  assert.throws(() => oauth.validateAuthResponse(as, publicClient, mixed, "s-1"), /"iss"/)
  mixed.searchParams.delete("iss")
  assert.throws(() => oauth.validateAuthResponse(as, publicClient, mixed, "s-1"), /"iss"/)

  // Errors name it as well.
  const refused = await authorize(publicClient, new Person(issuer, "bob"), { prompt: "none" })
  assert.equal(refused.answer.searchParams.get("iss"), issuer)
  assert.throws(() => oauth.validateAuthResponse(as, publicClient, refused.answer, "s-1"), { error: "login_required" })
})

test("a code works once, and its second use ends what the first has given", async () => {
  const given = await authorize(publicClient, new Person(issuer, "cleo"), {})
  const tokens = await redeem(publicClient, oauth.None(), given)
  await assert.rejects(redeem(publicClient, oauth.None(), given), { error: "invalid_grant" })
  const answer = await oauth.userInfoRequest(as, publicClient, tokens.access_token)
  assert.equal(answer.status, 401)
})

test("a resource server validates JWT access tokens (RFC 9068) by itself", async () => {
  const person = new Person(issuer, "dan")
  const plain = await redeem(publicClient, oauth.None(), await authorize(publicClient, person, { resource: api }))
  const claims = await oauth.validateJwtAccessToken(as, asRequest(plain.access_token), api)
  const { sub, sid } = oauth.getValidatedIdTokenClaims(plain)
  assert.deepEqual([claims.iss, claims.sub, claims.client_id, claims.sid], [issuer, sub, "public", sid])
  assert(claims.scope.split(" ").includes("profile") && claims.jti && claims.auth_time)
  await assert.rejects(oauth.validateJwtAccessToken(as, asRequest(plain.access_token), "https://other.example/"), /"aud"/)
  // An ID Token is none.
  await assert.rejects(oauth.validateJwtAccessToken(as, asRequest(plain.id_token), "public"), /"typ"/)
  const [head, body, signature] = plain.access_token.split(".")
  const tampered = [head, body, (signature[0] === "A" ? "B" : "A") + signature.slice(1)].join(".")
  await assert.rejects(oauth.validateJwtAccessToken(as, asRequest(tampered), api))

  // Bound to a key: with a proof only.
  const keys = await oauth.generateKeyPair("ES256")
  const bound = await redeem(publicClient, oauth.None(), await authorize(publicClient, person, { resource: api }), oauth.DPoP(publicClient, keys))
  let shown
  await oauth.protectedResourceRequest(bound.access_token, "GET", new URL(api + "things?a=1"), undefined, undefined, {
    DPoP: oauth.DPoP(publicClient, keys),
    [oauth.customFetch]: async (url, { headers }) => {
      shown = new Request(url, { headers })
      return new Response()
    },
  })
  const confirmed = await oauth.validateJwtAccessToken(as, shown, api)
  assert(confirmed.cnf.jkt)
  await assert.rejects(oauth.validateJwtAccessToken(as, asRequest(bound.access_token), api), /DPoP/)
})

test("a confidential client: client credentials and introspection", async () => {
  const client = { client_id: "basic" }
  const authentication = oauth.ClientSecretBasic(secret)
  const response = await oauth.clientCredentialsGrantRequest(as, client, authentication, { scope: "reports:read", resource: api })
  const tokens = await oauth.processClientCredentialsResponse(as, client, response)
  const claims = await oauth.validateJwtAccessToken(as, asRequest(tokens.access_token), api)
  assert.deepEqual([claims.sub, claims.scope], ["basic", "reports:read"])
  const shown = await oauth.processIntrospectionResponse(as, client, await oauth.introspectionRequest(as, client, authentication, tokens.access_token))
  assert.equal(shown.active, true)

  // Signed (RFC 9701), for who has to show the answer to others.
  const answer = await oauth.introspectionRequest(as, client, authentication, tokens.access_token, { requestJwtResponse: true })
  assert.equal(answer.headers.get("content-type"), "application/token-introspection+jwt")
  const signed = await oauth.processIntrospectionResponse(as, client, answer)
  await oauth.validateApplicationLevelSignature(as, answer)
  assert.deepEqual([signed.active, signed.sub], [true, "basic"])
})
