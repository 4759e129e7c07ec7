// The cookie jar that the Node build of gbv-login-client does not bring along.
//
// The package imports cross-fetch and isomorphic-ws, which have no cookies in Node.
// Required before the package, this file puts functions of the same kind in their
// place, in the module cache: the package itself stays as published. Whatever runs
// inside Browser.run, timers and sockets included, uses that browser's cookies, and
// whatever runs outside uses the unchanged originals.
"use strict"

const { AsyncLocalStorage } = require("node:async_hooks")
const Module = require("node:module")
const { CookieJar } = require("tough-cookie")
const makeFetchCookie = require("fetch-cookie").default

const crossFetch = require("cross-fetch")
const WebSocket = require("isomorphic-ws")

const current = new AsyncLocalStorage()

function fetch(url, options) {
  const browser = current.getStore()
  return browser ? browser.fetch(url, options) : crossFetch(url, options)
}

class CookieWebSocket extends WebSocket {
  constructor(url, protocols, options = {}) {
    const browser = current.getStore()
    super(url, protocols, browser ? { ...options, headers: browser.socketHeaders(url) } : options)
    this.browser = browser
    // A browser only tells its console that a connection has failed; ws ends the
    // process unless somebody listens, and the package does not.
    this.on("error", () => {})
  }

  // What listeners do on an event, they do in the browser of the socket.
  emit(...args) {
    return this.browser ? this.browser.run(() => super.emit(...args)) : super.emit(...args)
  }
}

// A new entry of the module cache: import remembers what a module exported when it
// was loaded, require what it exports now.
function replace(name, exports) {
  const filename = require.resolve(name)
  const module = new Module(filename)
  require.cache[filename] = Object.assign(module, { filename, exports, loaded: true })
}
replace("cross-fetch", Object.assign(fetch, crossFetch, { fetch, default: fetch }))
replace("isomorphic-ws", CookieWebSocket)

// Browser is a cookie jar and what uses it.
class Browser {
  // With socketCookies the WebSocket sends them too, and the origin, as browsers do;
  // without, only the authenticate message tells whose socket it is.
  constructor({ socketCookies = false, origin } = {}) {
    this.jar = new CookieJar()
    this.socketCookies = socketCookies
    this.origin = origin
    this.offline = false // requests get no answer
    this.finished = [] // paths of finished requests
    const withCookies = makeFetchCookie(crossFetch, this.jar)
    this.fetch = async (url, options) => {
      if (this.offline) {
        return new Promise(() => {})
      }
      const response = await withCookies(url, options)
      this.finished.push(new URL(url).pathname)
      return response
    }
  }

  run(callback) {
    return current.run(this, callback)
  }

  socketHeaders(url) {
    const headers = {}
    if (this.origin) {
      headers.Origin = this.origin
    }
    const cookies = this.jar.getCookieStringSync(url.replace(/^ws/, "http"))
    if (this.socketCookies && cookies) {
      headers.Cookie = cookies
    }
    return headers
  }

  // signIn opens the login form of a provider and posts it as the page would.
  async signIn(base, provider, username, password) {
    const page = `${base}login/${provider}`
    const html = await (await this.fetch(page)).text()
    const action = html.match(/<form[^>]* method="post"[^>]* action="([^"]+)"/)?.[1].replaceAll("&amp;", "&")
    for (const field of ["username", "password"]) {
      if (!action || !html.includes(` name="${field}"`)) {
        throw new Error(`no login form with ${field} at ${page}: ${html}`)
      }
    }
    const response = await this.post(new URL(action, page), { username, password })
    if (!response.url.endsWith("/account")) {
      throw new Error(`sign-in of ${username} ended at ${response.url}`)
    }
  }

  async signOut(base) {
    const response = await this.post(`${base}logout`, {})
    if (!response.ok) {
      throw new Error(`sign-out: ${response.status}`)
    }
  }

  async post(url, fields) {
    return this.fetch(String(url), {
      method: "POST",
      headers: { "Content-Type": "application/x-www-form-urlencoded" },
      body: new URLSearchParams(fields).toString(),
    })
  }
}

module.exports = { Browser }
