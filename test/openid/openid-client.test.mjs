// openid-client, a certified OpenID Connect client.

import assert from "node:assert/strict"
import { before, test } from "node:test"
import * as client from "openid-client"
import { Person } from "./person.mjs"

const { issuer, secret, callback, api, key } = JSON.parse(process.env.SETTINGS)
const deviceGrant = "urn:ietf:params:oauth:grant-type:device_code"
const accessToken = "urn:ietf:params:oauth:token-type:access_token"

let signingKey
before(async () => {
  const { kid, use, alg, ...jwk } = key
  signingKey = { key: await crypto.subtle.importKey("jwk", jwk, { name: "ECDSA", namedCurve: "P-256" }, false, ["sign"]), kid }
})

// discover finds the server, and has the library verify every signature, also of what came
// over TLS from the server itself.
async function discover(id, metadata, authentication) {
  const config = await client.discovery(new URL(issuer), id, metadata, authentication)
  client.enableNonRepudiationChecks(config)
  return config
}

const basic = () => discover("basic", {}, client.ClientSecretBasic(secret))

// signIn is the authorization code flow with PKCE, state and nonce. push makes it a pushed
// request; dpop is a handle of the library.
async function signIn(config, person, { push, dpop, decision, ...parameters } = {}) {
  const checks = { pkceCodeVerifier: client.randomPKCECodeVerifier(), expectedState: client.randomState(), expectedNonce: client.randomNonce(), idTokenExpected: true }
  const asked = {
    redirect_uri: callback, scope: "openid", state: checks.expectedState, nonce: checks.expectedNonce,
    code_challenge: await client.calculatePKCECodeChallenge(checks.pkceCodeVerifier), code_challenge_method: "S256", ...parameters,
  }
  const url = push ? await client.buildAuthorizationUrlWithPAR(config, asked, { DPoP: dpop }) : client.buildAuthorizationUrl(config, asked)
  if (push) assert.deepEqual([...url.searchParams.keys()].sort(), ["client_id", "request_uri"])
  const answer = await person.authorize(url, decision)
  return client.authorizationCodeGrant(config, answer, checks, {}, { DPoP: dpop })
}

const refused = (code, status = 400) => error => {
  assert.equal(error.error, code, error.stack)
  assert.equal(error.status, status)
  return true
}

test("discovery tells of everything that is tried here", async () => {
  const server = (await basic()).serverMetadata()
  assert.equal(server.issuer, issuer)
  assert(server.supportsPKCE())
  for (const name of ["authorization", "token", "userinfo", "introspection", "revocation", "pushed_authorization_request", "device_authorization", "end_session"]) {
    assert(server[name + "_endpoint"].startsWith(issuer + "/"), name)
  }
  assert(server.authorization_response_iss_parameter_supported)
  assert(server.backchannel_logout_supported && server.backchannel_logout_session_supported)
  // RFC 8414 has its own way.
  const older = await client.discovery(new URL(issuer), "basic", {}, client.ClientSecretBasic(secret), { algorithm: "oauth2" })
  assert.equal(older.serverMetadata().token_endpoint, server.token_endpoint)
})

test("client_secret_basic: code, userinfo, refresh, introspection, revocation", async () => {
  const config = await basic()
  const person = new Person(issuer, "ada")
  const first = await signIn(config, person, { scope: "openid profile offline_access identities" })
  const claims = first.claims()
  assert.equal(claims.aud, "basic")
  assert.equal(typeof claims.auth_time, "number")
  assert(claims.sid && claims.acr && claims.at_hash)
  assert.equal(claims.name, undefined)
  assert.equal(first.token_type, "bearer")
  assert(first.expiresIn() > 0)

  const user = await client.fetchUserInfo(config, first.access_token, claims.sub)
  assert.equal(user.name, "Ada")
  assert.equal(user.identities.length ?? Object.keys(user.identities).length, 1)

  const shown = await client.tokenIntrospection(config, first.access_token)
  assert.deepEqual([shown.active, shown.sub, shown.client_id, shown.token_type], [true, claims.sub, "basic", "Bearer"])
  assert.equal((await client.tokenIntrospection(config, first.refresh_token)).active, true)

  const second = await client.refreshTokenGrant(config, first.refresh_token)
  assert.notEqual(second.access_token, first.access_token)
  assert.notEqual(second.refresh_token, first.refresh_token)
  const renewed = second.claims()
  assert.deepEqual([renewed.sub, renewed.auth_time, renewed.sid], [claims.sub, claims.auth_time, claims.sid])
  // Two tabs at once, or an answer that was lost: the same successor.
  const [narrow, late] = await Promise.all([0, 1].map(() => client.refreshTokenGrant(config, second.refresh_token, { scope: "openid" })))
  assert.equal(late.refresh_token, narrow.refresh_token)
  assert.equal((await client.fetchUserInfo(config, narrow.access_token, claims.sub)).name, undefined)

  await client.tokenRevocation(config, narrow.access_token)
  await assert.rejects(client.fetchUserInfo(config, narrow.access_token, claims.sub), error => {
    assert.equal(error.cause[0].parameters.error, "invalid_token")
    return error.status === 401
  })
  assert.equal((await client.tokenIntrospection(config, narrow.access_token)).active, false)
  await client.tokenRevocation(config, narrow.refresh_token)
  await assert.rejects(client.refreshTokenGrant(config, narrow.refresh_token), refused("invalid_grant"))
  await assert.rejects(client.fetchUserInfo(config, second.access_token, claims.sub), { status: 401 })
})

test("prompt=none answers silently for who is signed in, and with login_required otherwise", async () => {
  const config = await basic()
  const person = new Person(issuer, "bob")
  await assert.rejects(signIn(config, person, { prompt: "none" }), error => error.error === "login_required")
  const first = (await signIn(config, person)).claims()
  const second = (await signIn(config, person, { prompt: "none", max_age: "1000" })).claims()
  assert.deepEqual([second.sub, second.auth_time, second.sid], [first.sub, first.auth_time, first.sid])
  await assert.rejects(signIn(config, person, { prompt: "consent", decision: "deny", scope: "openid profile" }), error => error.error === "access_denied")
})

test("response modes: form_post", async () => {
  const tokens = await signIn(await basic(), new Person(issuer, "ada"), { response_mode: "form_post" })
  assert(tokens.claims().sub)
})

test("response types beside code, switched on; client_secret_jwt", async () => {
  const hybrid = () => discover("hybrid", {}, client.ClientSecretJwt(secret))
  const config = await hybrid()
  client.useCodeIdTokenResponseType(config)
  client.enableDetachedSignatureResponseChecks(config) // c_hash, s_hash
  const person = new Person(issuer, "erin")
  const tokens = await signIn(config, person, { response_mode: "form_post" })
  assert.equal(tokens.claims().aud, "hybrid")
  assert.equal((await signIn(config, person, {})).claims().sub, tokens.claims().sub) // in the fragment

  const implicit = await hybrid()
  client.useIdTokenResponseType(implicit)
  const nonce = client.randomNonce()
  const state = client.randomState()
  const url = client.buildAuthorizationUrl(implicit, { redirect_uri: callback, scope: "openid profile", nonce, state })
  const claims = await client.implicitAuthentication(implicit, await person.authorize(url), nonce, { expectedState: state })
  assert.deepEqual([claims.sub, claims.name], [tokens.claims().sub, "Erin"])
})

test("a client registers itself, and signs somebody in", async () => {
  const metadata = { redirect_uris: [callback], client_name: "Registered", scope: "openid profile", token_endpoint_auth_method: "client_secret_post" }
  const config = await client.dynamicClientRegistration(new URL(issuer), metadata)
  client.enableNonRepudiationChecks(config)
  const registered = config.clientMetadata()
  assert.equal(registered.client_secret_expires_at, 0)
  assert(registered.registration_access_token && registered.registration_client_uri.startsWith(issuer + "/"))
  const tokens = await signIn(config, new Person(issuer, "ada"), { scope: "openid profile" })
  assert.equal(tokens.claims().aud, registered.client_id)
  assert.equal((await client.fetchUserInfo(config, tokens.access_token, tokens.claims().sub)).name, "Ada")
  const manage = method => fetch(registered.registration_client_uri, { method, headers: { authorization: `Bearer ${registered.registration_access_token}` } })
  assert.equal((await (await manage("GET")).json()).client_id, registered.client_id)
  assert.equal((await manage("DELETE")).status, 204)
  await assert.rejects(client.tokenIntrospection(config, tokens.access_token), refused("invalid_client", 401))
  await assert.rejects(client.fetchUserInfo(config, tokens.access_token, tokens.claims().sub), { status: 401 })
})

test("client_secret_post: an opaque access token, a signed userinfo", async () => {
  const config = await discover("post", { userinfo_signed_response_alg: "ES256" }, client.ClientSecretPost(secret))
  const tokens = await signIn(config, new Person(issuer, "ada"), { scope: "openid profile" })
  assert.equal(tokens.access_token.split(".").length, 2)
  const user = await client.fetchUserInfo(config, tokens.access_token, tokens.claims().sub)
  assert.deepEqual([user.name, user.iss, user.aud], ["Ada", issuer, "post"])
  assert.equal((await client.tokenIntrospection(config, tokens.access_token)).sub, tokens.claims().sub)
  await assert.rejects(discover("post", {}, client.ClientSecretPost(secret + "?")).then(c => client.tokenIntrospection(c, "x")), refused("invalid_client", 401))
})

test("private_key_jwt with PAR, DPoP and JARM", async () => {
  const config = await discover("keys", { id_token_signed_response_alg: "ES256", authorization_signed_response_alg: "PS256" }, client.PrivateKeyJwt(signingKey))
  client.useJwtResponseMode(config)
  const person = new Person(issuer, "cleo")
  const dpop = client.getDPoPHandle(config, await client.randomDPoPKeyPair("ES256"))
  const tokens = await signIn(config, person, { push: true, dpop, scope: "openid profile", response_mode: "query.jwt" })
  assert.equal(tokens.token_type, "dpop")
  const { sub } = tokens.claims()
  assert.equal((await client.fetchUserInfo(config, tokens.access_token, sub, { DPoP: dpop })).name, "Cleo")
  const shown = await client.tokenIntrospection(config, tokens.access_token)
  assert.equal(shown.cnf.jkt, await dpop.calculateThumbprint())
  assert.equal(shown.token_type, "DPoP")

  // Whoever has the token only, or another key, has nothing.
  await assert.rejects(client.fetchUserInfo(config, tokens.access_token, sub), { status: 401 })
  const other = client.getDPoPHandle(config, await client.randomDPoPKeyPair("ES256"))
  await assert.rejects(client.fetchUserInfo(config, tokens.access_token, sub, { DPoP: other }), { status: 401 })
  const again = await client.refreshTokenGrant(config, tokens.refresh_token, {}, { DPoP: dpop })
  assert.equal(again.token_type, "dpop")
  await assert.rejects(client.refreshTokenGrant(config, again.refresh_token), error => error.error === "invalid_dpop_proof" || error.error === "invalid_grant")

  // A request that was not pushed.
  await assert.rejects(signIn(config, person, { dpop }), error => error.error === "invalid_request")
})

test("a request object by value (JAR), and pushed", async () => {
  const config = await discover("keys", { id_token_signed_response_alg: "ES256", authorization_signed_response_alg: "PS256" }, client.PrivateKeyJwt(signingKey))
  const dpop = client.getDPoPHandle(config, await client.randomDPoPKeyPair("ES256"))
  const checks = { pkceCodeVerifier: client.randomPKCECodeVerifier(), expectedState: client.randomState(), idTokenExpected: true }
  const signed = await client.buildAuthorizationUrlWithJAR(config, {
    redirect_uri: callback, scope: "openid", state: checks.expectedState,
    code_challenge: await client.calculatePKCECodeChallenge(checks.pkceCodeVerifier), code_challenge_method: "S256",
  }, signingKey)
  const url = await client.buildAuthorizationUrlWithPAR(config, signed.searchParams, { DPoP: dpop })
  const answer = await new Person(issuer, "cleo").authorize(url)
  const tokens = await client.authorizationCodeGrant(config, answer, checks, {}, { DPoP: dpop })
  assert.equal(tokens.claims().aud, "keys")
})

test("FAPI 2.0: pushed, bound to a key, refresh tokens that stay", async () => {
  const config = await discover("fapi", { id_token_signed_response_alg: "PS256" }, client.PrivateKeyJwt(signingKey))
  const dpop = client.getDPoPHandle(config, await client.randomDPoPKeyPair("ES256"))
  const tokens = await signIn(config, new Person(issuer, "dan"), { push: true, dpop, scope: "openid profile" })
  assert.equal((await client.fetchUserInfo(config, tokens.access_token, tokens.claims().sub, { DPoP: dpop })).name, "Dan")
  for (let i = 0; i < 2; i++) {
    const again = await client.refreshTokenGrant(config, tokens.refresh_token, {}, { DPoP: dpop })
    assert.equal(again.claims().sub, tokens.claims().sub)
    assert.equal(again.refresh_token ?? tokens.refresh_token, tokens.refresh_token)
  }
})

test("device authorization", async () => {
  const config = await basic()
  const device = await client.initiateDeviceAuthorization(config, { scope: "openid profile" })
  assert.equal(device.interval, 5)
  await assert.rejects(client.genericGrantRequest(config, deviceGrant, { device_code: device.device_code }), refused("authorization_pending"))
  const person = new Person(issuer, "ada")
  const page = await person.through(await person.visit(device.verification_uri_complete))
  assert(page.text.includes('id="device-done"'), page.text)
  // Somebody has decided already: there is nothing to wait for.
  const tokens = await client.pollDeviceAuthorizationGrant(config, { ...device, interval: 0 })
  assert.equal((await client.fetchUserInfo(config, tokens.access_token, tokens.claims().sub)).name, "Ada")

  const another = await client.initiateDeviceAuthorization(config, { scope: "openid" })
  assert((await person.through(await person.visit(another.verification_uri_complete), "deny")).text.includes('id="device-done"'))
  await assert.rejects(client.pollDeviceAuthorizationGrant(config, { ...another, interval: 0 }), refused("access_denied"))
})

test("client credentials, and token exchange", async () => {
  const config = await basic()
  const own = await client.clientCredentialsGrant(config, { scope: "reports:read", resource: api })
  assert.equal(own.refresh_token, undefined)
  assert.equal((await client.tokenIntrospection(config, own.access_token)).sub, "basic")
  await assert.rejects(client.clientCredentialsGrant(config, { scope: "openid" }), refused("invalid_scope"))

  const person = await signIn(config, new Person(issuer, "erin"), { scope: "openid profile" })
  const delegated = await client.genericGrantRequest(config, "urn:ietf:params:oauth:grant-type:token-exchange", {
    subject_token: person.access_token, subject_token_type: accessToken, audience: api, scope: "profile",
  })
  assert.equal(delegated.issued_token_type, accessToken)
  const shown = await client.tokenIntrospection(config, delegated.access_token)
  assert.deepEqual([shown.sub, shown.aud, shown.act.sub, shown.scope], [person.claims().sub, api, "basic", "profile"])
  await assert.rejects(client.fetchUserInfo(config, delegated.access_token, shown.sub), { status: 401 })
})

test("RP-initiated logout", async () => {
  const config = await basic()
  const person = new Person(issuer, "finn")
  const tokens = await signIn(config, person)
  const url = client.buildEndSessionUrl(config, { id_token_hint: tokens.id_token, post_logout_redirect_uri: "https://client.example/bye", state: "a state & more" })
  assert.equal((await person.visit(url)).away.href, "https://client.example/bye?state=a+state+%26+more")
  await assert.rejects(signIn(config, person, { prompt: "none" }), error => error.error === "login_required")
  await assert.rejects(client.refreshTokenGrant(config, tokens.refresh_token), refused("invalid_grant"))
  await assert.rejects(client.fetchUserInfo(config, tokens.access_token, tokens.claims().sub), { status: 401 })

  // Anything less is a page that asks.
  const asked = await person.visit(client.buildEndSessionUrl(config, { post_logout_redirect_uri: "https://elsewhere.example/", id_token_hint: tokens.id_token }))
  assert.equal(asked.away, undefined)
})
