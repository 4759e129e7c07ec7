// A small application: it connects to the login server that its query names, and
// keeps what the client tells. The test looks at it through the functions below.
"use strict"

const base = new URL(new URLSearchParams(location.search).get("server"))
const client = new GLC.LoginClient(base.host + base.pathname, { ssl: base.protocol === "https:", retryMs: 200 })
const seen = []
client.addEventListener(null, event => {
  seen.push({ ...event, error: event.error && (Object.entries(GLC.errors).find(([, type]) => event.error instanceof type)?.[0] ?? String(event.error)) })
})
client.connect()

// count is how often an event was seen.
const count = type => seen.filter(event => event.type === type).length

// last is the latest event of a type.
const last = type => seen.findLast(event => event.type === type) ?? null

// verified is what is in the client's token, checked with nothing but the PEM from
// the about event and the browser's own cryptography.
async function verified() {
  const { publicKey, algorithm } = client.about
  if (algorithm !== "RS256") {
    throw new Error(`unexpected algorithm ${algorithm}`)
  }
  const bytes = base64 => Uint8Array.from(atob(base64), c => c.charCodeAt(0))
  const plain = base64url => bytes(base64url.replaceAll("-", "+").replaceAll("_", "/"))
  const kind = { name: "RSASSA-PKCS1-v1_5", hash: "SHA-256" }
  const der = bytes(publicKey.replace(/-----[^-]+-----|\s/g, ""))
  const key = await crypto.subtle.importKey("spki", der, kind, false, ["verify"])
  const [head, payload, signature] = client.token.split(".")
  const signed = new TextEncoder().encode(`${head}.${payload}`)
  if (!await crypto.subtle.verify(kind, key, plain(signature), signed)) {
    throw new Error("the signature is wrong")
  }
  return JSON.parse(new TextDecoder().decode(plain(payload)))
}

// attempt is what a page can find out that tries it without the client.
async function attempt() {
  const result = {}
  for (const path of ["currentUser", "token", "about", "login"]) {
    result[path] = await fetch(base + path, { credentials: "include" }).then(r => r.text(), error => error.name)
  }
  result.socket = await new Promise(resolve => {
    const socket = new WebSocket(String(base).replace("http", "ws"))
    socket.onopen = () => resolve("open")
    socket.onmessage = event => resolve(event.data)
    socket.onclose = () => resolve("closed")
  })
  return result
}
