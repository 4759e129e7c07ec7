// A person who uses the server's pages as a browser without JavaScript does: with cookies,
// links and forms.

import assert from "node:assert/strict"
import https from "node:https"

// request sends what it is told and nothing else; fetch would say of itself that it is no
// navigation.
function request(url, { method = "GET", headers = {}, body } = {}) {
  return new Promise((resolve, reject) => {
    const sent = https.request(url, { method, headers }, answer => {
      let text = ""
      answer.setEncoding("utf8")
      answer.on("data", part => (text += part))
      answer.on("end", () => resolve({ status: answer.statusCode, headers: answer.headers, text }))
      answer.on("error", reject)
    })
    sent.on("error", reject)
    sent.end(body)
  })
}

function decode(text) {
  const named = { amp: "&", lt: "<", gt: ">", quot: '"' }
  return text.replace(/&(?:#(\d+)|(\w+));/g, (all, code, name) => (code ? String.fromCodePoint(code) : (named[name] ?? all)))
}

// hidden are the hidden fields of a form.
function hidden(form) {
  return Object.fromEntries([...form.matchAll(/<input type="hidden" name="([^"]*)" value="([^"]*)"/g)].map(([, name, value]) => [decode(name), decode(value)]))
}

export class Person {
  #cookies = new Map()

  constructor(issuer, name) {
    this.issuer = issuer
    this.name = name
  }

  // visit opens an address and follows redirects up to one that leads away from the
  // server: {away: URL}, or {url, text, status} of a page.
  async visit(url, options = {}) {
    for (let i = 0; i < 10; i++) {
      const cookie = [...this.#cookies].map(([name, value]) => `${name}=${value}`).join("; ")
      const answer = await request(url, { ...options, headers: { ...options.headers, ...(cookie && { cookie }) } })
      for (const line of answer.headers["set-cookie"] ?? []) {
        const [, name, value] = /^([^=]+)=([^;]*)/.exec(line)
        if (/max-age=0|max-age=-/i.test(line)) this.#cookies.delete(name)
        else this.#cookies.set(name, value)
      }
      if (!answer.headers.location) return { url: new URL(url), ...answer }
      url = new URL(answer.headers.location, url)
      if (url.origin !== this.issuer) return { away: url }
      options = {}
    }
    assert.fail(`too many redirects, at ${url}`)
  }

  // submit posts the form of a page whose action ends in something, with these fields
  // beside the hidden ones.
  async submit(page, action, fields) {
    for (const [, to, form] of page.text.matchAll(/<form[^>]*action="([^"]*)"[^>]*>(.*?)<\/form>/gs)) {
      const url = new URL(decode(to), page.url)
      if (!url.pathname.endsWith(action)) continue
      const body = new URLSearchParams({ ...hidden(form), ...fields }).toString()
      return this.visit(url, { method: "POST", headers: { "content-type": "application/x-www-form-urlencoded", origin: this.issuer }, body })
    }
    assert.fail(`no form for ${action} at ${page.url}: ${page.text}`)
  }

  // through does what the pages ask for until they lead away or have nothing to ask.
  async through(page, decision = "allow") {
    for (let i = 0; i < 6 && page.text; i++) {
      const link = /<a class="provider" href="([^"]*login\/test[^"]*)"/.exec(page.text)
      if (link) page = await this.visit(new URL(decode(link[1]), page.url))
      else if (page.text.includes('id="login-submit"')) page = await this.submit(page, "/login/test", { username: this.name, password: `${this.name}-pass` })
      else if (page.text.includes('id="consent-allow"')) page = await this.submit(page, page.url.pathname, { decision })
      else break
    }
    return page
  }

  // authorize opens an authorization request and returns the response to it, as the URL that
  // the client is called at: with response_mode=form_post it is a Request.
  async authorize(url, decision) {
    const page = await this.through(await this.visit(url), decision)
    if (page.away) return page.away
    const form = /<form[^>]*method="post"[^>]*action="([^"]*)"[^>]*>(.*?)<\/form>/s.exec(page.text)
    assert(form && new URL(decode(form[1])).origin !== this.issuer, `${page.status} at ${page.url}: ${page.text}`)
    return new Request(decode(form[1]), { method: "POST", body: new URLSearchParams(hidden(form[2])) })
  }
}
