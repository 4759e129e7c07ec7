// An application with Express and express-openid-connect. It says {"ready": true} when it
// listens.

import { readFileSync } from "node:fs"
import https from "node:https"
import express from "express"
import openid from "express-openid-connect"
import session from "express-session"

const { issuer, secret, origin, cert, key } = JSON.parse(process.env.SETTINGS)

const app = express()
app.use(openid.auth({
  issuerBaseURL: issuer,
  baseURL: origin,
  clientID: "express",
  clientSecret: secret,
  secret: "what the cookies of the application are encrypted with",
  clientAuthMethod: "client_secret_basic",
  authRequired: false,
  idpLogout: true,
  authorizationParams: { response_type: "code", scope: "openid profile" },
  backchannelLogout: { store: new session.MemoryStore() },
}))
app.get("/", (req, res) => res.type("html").send(`<p id="state">${req.oidc.isAuthenticated() ? "signed in" : "signed out"}</p>`))
app.get("/state", (req, res) => res.json(req.oidc.isAuthenticated()))
app.get("/profile", openid.requiresAuth(), async (req, res) => {
  const { name } = await req.oidc.fetchUserInfo()
  res.type("html").send(`<p id="name">${name}</p><p id="sid">${req.oidc.idTokenClaims.sid}</p><a id="logout" href="/logout">Sign out</a>`)
})

const { hostname, port } = new URL(origin)
https.createServer({ cert: readFileSync(cert), key: readFileSync(key) }, app).listen(Number(port), hostname, () => console.log(JSON.stringify({ ready: true })))
