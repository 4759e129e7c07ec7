// The published gbv-login-client, ESM and CommonJS build, against the server.
// client_test.go runs this file; it starts the servers that are asked for here.
import assert from "node:assert/strict"
import { createRequire } from "node:module"
import { before, describe, it } from "node:test"
import jsonwebtoken from "jsonwebtoken"

const require = createRequire(import.meta.url)
const { Browser } = require("./browser.cjs") // before the client

const builds = {
  ESM: await import("gbv-login-client"),
  CommonJS: require("gbv-login-client"),
}
assert.notEqual(builds.ESM.LoginClient, builds.CommonJS.LoginClient)

const manager = process.env.LOGIN_SERVER_MANAGER
if (!manager) {
  throw new Error("run these tests with: go test ./test/client")
}
const origin = "http://app.localhost:8080"
const limit = { timeout: 60_000 }

async function ask(path, order) {
  const response = await fetch(manager + path, { method: "POST", body: JSON.stringify(order) })
  if (!response.ok) {
    throw new Error(`${path}: ${await response.text()}`)
  }
  return response.json()
}

async function startServer(settings = {}, clock = false) {
  const { id, url } = await ask("/start", { settings: { ALLOWED_ORIGINS: origin, ...settings }, clock })
  return {
    url,
    restart: signal => ask("/restart", { id, signal }),
    advance: minutes => ask("/advance", { id, minutes }),
  }
}

// App is an application with a client, and everything the client has told it.
class App {
  constructor({ LoginClient, events }, url, browser) {
    this.browser = browser
    this.types = events
    this.seen = []
    this.position = {}
    this.waiting = new Set()
    const { protocol, host, pathname } = new URL(url)
    this.client = new LoginClient(host + pathname, { ssl: protocol === "https:", retryMs: 100, retryMsMax: 500 })
    this.client.addEventListener(null, event => {
      this.seen.push({ ...event })
      this.waiting.forEach(look => look())
    })
  }

  run(callback) {
    return this.browser ? this.browser.run(callback) : callback()
  }

  connect() {
    return this.run(() => this.client.connect())
  }

  // next is the first event of a type after the one that next returned before.
  next(type, matches = () => true, ms = 15_000) {
    return new Promise((resolve, reject) => {
      const look = () => {
        const from = this.position[type] ?? 0
        const index = this.seen.findIndex((event, i) => i >= from && event.type === type && matches(event))
        if (index >= 0) {
          this.position[type] = index + 1
          done(() => resolve(this.seen[index]))
        }
      }
      const timer = setTimeout(() => done(() => {
        const all = this.seen.map(e => e.type.startsWith("_") ? `${e.type} ${e.message.slice(0, 120)}` : `${e.type} ${e.error?.message ?? ""}`)
        reject(new Error(`no ${type} within ${ms} ms; seen:\n${all.join("\n")}`))
      }), ms)
      const done = finish => {
        clearTimeout(timer)
        this.waiting.delete(look)
        finish()
      }
      this.waiting.add(look)
      look()
    })
  }

  // received is the next message of the server.
  received(type) {
    return this.next("_received", event => JSON.parse(event.message).type === type)
  }

  // skip makes next look at what comes from now on.
  skip() {
    for (const type of Object.values(this.types)) {
      this.position[type] = this.seen.length
    }
  }

  get messages() {
    return this.seen.filter(event => event.type === "_received").map(event => JSON.parse(event.message))
  }

  count(type) {
    return this.seen.filter(event => event.type === type).length
  }
}

// verify is what the backend of an application does with a token.
function verify(token, about) {
  return jsonwebtoken.verify(token, about.publicKey, { algorithms: [about.algorithm] })
}

async function until(what, holds, ms = 15_000) {
  for (const end = Date.now() + ms; !await holds();) {
    if (Date.now() > end) {
      throw new Error(`not within ${ms} ms: ${what}`)
    }
    await new Promise(resolve => setTimeout(resolve, 10))
  }
}

// withApp makes an app and ends it whatever happens.
async function withApp(build, url, browser, use) {
  const app = new App(build, url, browser)
  try {
    app.connect()
    await use(app)
  } finally {
    app.client.disconnect()
  }
}

describe("gbv-login-client", { concurrency: true }, () => {
  let server
  before(async () => { server = await startServer({ JWT_EXPIRES_IN: "10", TITLE: "Client Test" }) }, limit)

  const variants = [
    // Each has a user of its own, for they run at the same time.
    ["ESM", "without cookies at the WebSocket", {}, "ada"],
    ["ESM", "with cookies at the WebSocket", { socketCookies: true, origin }, "bob"],
    ["CommonJS", "without cookies at the WebSocket", {}, "cleo"],
    ["CommonJS", "with cookies at the WebSocket", { socketCookies: true, origin }, "dan"],
  ]
  for (const [name, how, options, username] of variants) {
    it(`${name} build, ${how}: from connect to disconnect`, limit, async () => {
      const build = builds[name]
      const browser = new Browser(options)
      if (options.socketCookies) {
        await browser.fetch(server.url + "login")
      }
      await withApp(build, server.url, browser, async app => {
        const { client } = app
        await app.next("connect")
        assert.ok(client.connected)

        const about = await app.next("about")
        assert.equal(about.title, "Client Test")
        assert.equal(about.baseUrl, server.url)
        assert.equal(about.algorithm, "RS256")
        assert.match(about.publicKey, /^-----BEGIN PUBLIC KEY-----/)
        assert.equal(about.ok, 1)
        const http = await (await fetch(server.url + "about")).json()
        assert.deepEqual(Object.keys(http).sort(), Object.keys(about).filter(key => key !== "type").sort())

        const { providers } = await app.next("providers")
        assert.deepEqual(providers.map(p => p.id), ["test", "local"])
        assert.equal(providers[0].loginURL, server.url + "login/test")
        assert.deepEqual(client.providers, await (await fetch(server.url + "providers")).json())

        await app.next("logout")
        assert.equal(client.loggedIn, false)
        assert.equal(client.user, null)
        const greeting = options.socketCookies
          ? ["open", "about", "providers", "authenticated", "loggedOut"]
          : ["open", "about", "providers", "loggedOut", "authenticated"]
        assert.deepEqual(app.messages.map(m => m.type).slice(0, 5), greeting)
        for (const message of app.messages) {
          assert.ok(Math.abs(new Date(message.date) - Date.now()) < 60_000, message.date)
          assert.ok("data" in message, message.type)
        }

        await browser.signIn(server.url, "test", username, `${username}-pass`)
        const { user } = await app.next("login")
        assert.equal(user.name.toLowerCase(), username)
        assert.ok(user.uri.startsWith(server.url + "users/"))
        assert.equal(user.uri, server.url + "users/" + user._id)
        assert.equal(user.identities.test.uri, `https://example.org/people/${username}`)
        assert.equal(user.usage, undefined)
        assert.deepEqual(client.user, user)
        assert.ok(client.loggedIn)

        const { token, expiresIn } = await app.next("token")
        assert.ok(expiresIn > 5 && expiresIn <= 10, String(expiresIn))
        const claims = verify(token, about)
        assert.deepEqual(claims.user, user)
        assert.equal(claims.exp - claims.iat, 10)
        assert.ok(!("sessionID" in claims))
        assert.deepEqual(client.decodedToken, claims)

        const response = await app.run(() => client.setName(`${user.name} Renamed`))
        assert.equal(response.status, 200)
        const { user: renamed } = await app.next("update")
        assert.deepEqual(renamed, { ...user, name: `${user.name} Renamed` })
        assert.deepEqual(client.user, renamed)
        await assert.rejects(app.run(() => client.setName("\u0007")), { status: 422 })

        // The same person elsewhere, and a client that connects while signed in.
        const other = new Browser(options)
        await other.signIn(server.url, "test", username, `${username}-pass`)
        await withApp(build, server.url, other, async app2 => {
          await app2.next("connect")
          assert.deepEqual((await app2.next("login")).user, renamed)
          assert.deepEqual(verify((await app2.next("token")).token, about).user, renamed)
          if (options.socketCookies) {
            assert.deepEqual(app2.messages.map(m => m.type).slice(0, 6), ["open", "about", "providers", "authenticated", "loggedIn", "token"])
          }
          await app2.run(() => app2.client.setName(user.name))
          assert.deepEqual((await app.next("update")).user, user)
          assert.deepEqual((await app2.next("update")).user, user)
        })

        app.skip()
        await browser.signOut(server.url)
        await app.next("logout")
        assert.equal(client.user, null)
        assert.equal(client.loggedIn, false)
        assert.ok(client.connected, "signing out keeps the socket")

        // And again in the same browser, through another provider.
        await browser.signIn(server.url, "local", "erin", "demo")
        assert.equal((await app.next("login")).user.name, "Erin")
        assert.equal(verify((await app.next("token")).token, about).user.name, "Erin")

        const errors = app.seen.filter(event => event.type === "error").map(event => event.error?.message)
        assert.deepEqual(errors, [])
        assert.equal(app.count("connect"), 1, "one connection did it all")
        assert.equal(app.count("disconnect"), 0)
        client.disconnect()
        assert.equal(app.count("disconnect"), 1)
        assert.equal(client.connected, false)
        const before = app.seen.length
        await browser.signOut(server.url)
        await new Promise(resolve => setTimeout(resolve, 300))
        assert.equal(app.seen.length, before, "nothing is told after disconnect")
      })
    })
  }

  for (const name of Object.keys(builds)) {
    it(`${name} build: a new token before the old one expires`, limit, async () => {
      const browser = new Browser({ socketCookies: name === "ESM" })
      await browser.signIn(server.url, "test", "finn", "finn-pass")
      await withApp(builds[name], server.url, browser, async app => {
        const about = await app.next("about")
        const first = verify((await app.next("token")).token, about)
        const { token, expiresIn } = await app.next("token")
        assert.ok(Date.now() < first.exp * 1000, "the first token is good until the second is there")
        assert.ok(first.exp * 1000 - Date.now() < 5_000, "the second token does not come too early")
        const second = verify(token, about)
        assert.ok(second.exp > first.exp)
        assert.deepEqual(second.user, first.user)
        assert.equal(expiresIn, 10)
        assert.equal(app.client.token, token)
      })
    })

    it(`${name} build: without a cookie jar there is ThirdPartyCookiesBlockedError`, limit, async () => {
      const build = builds[name]
      await withApp(build, server.url, null, async app => {
        const { error } = await app.next("error")
        assert.ok(error instanceof build.errors.ThirdPartyCookiesBlockedError, String(error))
        assert.ok(app.client.about.publicKey)
        assert.equal(app.client.providers.length, 2)
        assert.equal(app.client.connected, false)
        assert.equal(app.count("connect"), 0)
      })
    })
  }

  it("an origin that is not allowed gets no socket", limit, async () => {
    const browser = new Browser({ socketCookies: true, origin: "http://evil.example" })
    await browser.signIn(server.url, "test", "gil", "gil-pass")
    await withApp(builds.ESM, server.url, browser, async app => {
      const { error } = await app.next("error")
      assert.ok(error instanceof builds.ESM.errors.ServerConnectionError, String(error))
      await app.next("error") // and again
      assert.deepEqual(app.messages, [])
    })
  })

  it("over IPv6: somebody signs in behind an open socket", limit, async t => {
    const { protocol, port } = new URL(server.url)
    const url = `${protocol}//[::1]:${port}/`
    if (!await fetch(url + "about").then(response => response.ok, () => false)) {
      t.skip("no IPv6 here")
      return
    }
    for (const socketCookies of [false, true]) {
      const browser = new Browser({ socketCookies })
      await browser.fetch(url + "login")
      await withApp(builds.ESM, url, browser, async app => {
        await app.next("connect")
        await browser.signIn(url, "test", "gil", "gil-pass")
        assert.equal((await app.next("login")).user.name, "Gil")
        assert.equal(app.count("disconnect"), 0, "the socket stays")
      })
    }
  })

  it("tokens of GET /token, with jsonwebtoken", limit, async () => {
    const about = await (await fetch(server.url + "about")).json()
    const anonymous = await (await fetch(server.url + "token")).json()
    assert.deepEqual(Object.keys(anonymous).sort(), ["expiresIn", "token"])
    assert.deepEqual(Object.keys(verify(anonymous.token, about)).sort(), ["exp", "iat", "user"])
    assert.equal(verify(anonymous.token, about).user, null)

    const browser = new Browser()
    await browser.fetch(server.url + "login")
    const visited = verify((await (await browser.fetch(server.url + "token")).json()).token, about)
    assert.equal(visited.user, null)
    assert.equal(typeof visited.sessionID, "string", "one visit of /login is enough")

    await browser.signIn(server.url, "test", "gil", "gil-pass")
    const { token } = await (await browser.fetch(server.url + "token")).json()
    const claims = verify(token, about)
    assert.equal(claims.user.name, "Gil")
    assert.equal(typeof claims.sessionID, "string")
    const [head, , signature] = token.split(".")
    const forged = [head, Buffer.from(JSON.stringify({ ...claims, user: null })).toString("base64url"), signature].join(".")
    assert.throws(() => verify(forged, about), jsonwebtoken.JsonWebTokenError)
  })

  for (const algorithm of ["PS256", "ES256", "ES384"]) {
    it(`JWT_ALGORITHM=${algorithm}, with jsonwebtoken`, limit, async () => {
      const server = await startServer({ JWT_ALGORITHM: algorithm }, true)
      const browser = new Browser()
      await browser.signIn(server.url, "test", "ada", "ada-pass")
      await withApp(builds.ESM, server.url, browser, async app => {
        const about = await app.next("about")
        assert.equal(about.algorithm, algorithm)
        assert.equal(verify((await app.next("token")).token, about).user.name, "Ada")
      })
    })
  }

  for (const [name, socketCookies] of [["ESM", false], ["CommonJS", true]]) {
    it(`${name} build: comes back after the server was restarted`, limit, async () => {
      const server = await startServer()
      const browser = new Browser({ socketCookies })
      await browser.signIn(server.url, "test", "ada", "ada-pass")
      const anonymous = new Browser({ socketCookies })
      await withApp(builds[name], server.url, browser, app => withApp(builds[name], server.url, anonymous, async app2 => {
        await app.next("connect")
        await app2.next("connect")
        const about = await app.next("about")
        const { user } = await app.next("login")
        await app.next("token")
        for (const signal of ["KILL", "TERM"]) {
          const before = [app.count("connect"), app2.count("connect")]
          app.skip()
          app2.skip()
          await server.restart(signal)
          for (const type of ["disconnect", "connect"]) {
            await app.next(type)
            await app2.next(type)
          }
          assert.deepEqual([app.count("connect"), app2.count("connect")], before.map(n => n + 1))
          assert.deepEqual((await app.next("login")).user, user, "the session has survived")
          // There is no event if it is the very token of before, signed again.
          await app.received("token")
          assert.deepEqual(verify(app.client.token, about).user, user, "and so has the key")
        }
        // Whoever was a stranger before the restart can sign in after it.
        await anonymous.signIn(server.url, "test", "bob", "bob-pass")
        assert.equal((await app2.next("login")).user.name, "Bob")
      }))
    })
  }

  it("a session that is about to expire is renewed by the client", limit, async () => {
    // The clock of this server stands still but for advance.
    const server = await startServer({ COOKIE_MAX_DAYS: "1", JWT_EXPIRES_IN: "864000" }, true)
    const browser = new Browser()
    await browser.signIn(server.url, "test", "ada", "ada-pass")
    await withApp(builds.ESM, server.url, browser, async app => {
      await app.next("connect")
      await app.next("login")
      const warned = () => app.messages.filter(m => m.type === "sessionAboutToExpire").length
      for (let day = 1; day <= 2; day++) {
        await server.advance(22 * 60 + 50)
        const [before, visits] = [warned(), browser.finished.filter(path => path === "/login").length]
        await server.advance(10)
        await app.received("sessionAboutToExpire")
        assert.equal(warned(), before + 1, "told when an hour is left, not earlier")
        await until("the client fetches /login", () => browser.finished.filter(path => path === "/login").length > visits)
      }
      // Without that the session would have ended a day ago.
      assert.equal((await browser.fetch(server.url + "currentUser")).status, 200)
      assert.equal(app.client.loggedIn, true)
      assert.equal(app.count("disconnect"), 0)
    })
  })

  it("a session that nobody renews ends, and the client hears of it", limit, async () => {
    const server = await startServer({ COOKIE_MAX_DAYS: "1", JWT_EXPIRES_IN: "864000" }, true)
    const browser = new Browser({ socketCookies: true })
    await browser.signIn(server.url, "test", "ada", "ada-pass")
    await withApp(builds.ESM, server.url, browser, async app => {
      await app.next("login")
      // What the client asks for when it connects is still under way, and would renew
      // the session if it arrived after the clock has moved.
      await until("the client has connected", () => browser.finished.includes("/token"))
      browser.offline = true
      await server.advance(24 * 60 + 10)
      await app.next("logout")
      assert.equal(app.client.user, null)
      browser.offline = false
      assert.equal((await browser.fetch(server.url + "currentUser")).status, 401)
    })
  })
})
