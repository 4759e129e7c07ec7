// The live demonstration of the API: what an application does with this server.
"use strict";

const demo = document.getElementById("demo");
const words = demo.dataset;
const log = document.getElementById("log");
const answer = document.getElementById("answer");

let socket = null;
let publicKey = ""; // PEM from /about
let latest = 0;     // of several checks of a token, only the latest shows

// Events

function connect() {
  if (socket) {
    socket.onclose = null;
    socket.close();
  }
  showSocket("busy", words.connecting);
  try {
    socket = new WebSocket(words.socket);
  } catch {
    showSocket("bad", words.failed);
    return;
  }
  socket.onopen = () => showSocket("good", words.connected);
  socket.onclose = () => showSocket("bad", words.closed);
  socket.onmessage = ({ data }) => {
    let event;
    try {
      event = JSON.parse(data);
    } catch {
      event = { type: "?", data };
    }
    record(words.received, event);
    receive(event);
  };
}

function receive({ type, data }) {
  switch (type) {
    case "about":
      publicKey = data.publicKey;
      break;
    case "token":
      showToken(data.token);
      break;
    case "loggedIn":
    case "updated":
      document.getElementById("patch-name").value = data.user.name;
      break;
  }
}

async function send(type) {
  const message = { type };
  if (type === "authenticate") {
    // Only a token from GET /token names the session that the socket is to belong to.
    const { body } = await request("GET", "token");
    if (!body?.token) return;
    message.token = body.token;
  }
  if (socket?.readyState !== WebSocket.OPEN) {
    showSocket("bad", words.closed);
    return;
  }
  socket.send(JSON.stringify(message));
  record(words.sent, message);
}

function showSocket(state, text) {
  const status = document.getElementById("socket-status");
  status.dataset.state = state;
  status.textContent = text;
}

// record adds an event to the log, its data folded away.
function record(direction, { type, date, data, token }) {
  const time = (date ? new Date(date) : new Date()).toLocaleTimeString(document.documentElement.lang);
  const line = element("span", `${time} ${direction} `, element("span", type, "type"));
  const content = data ?? (token && { token });
  const item = document.createElement("li");
  if (content && Object.keys(content).length > 0) {
    const details = document.createElement("details");
    const summary = document.createElement("summary");
    summary.append(...line.childNodes);
    details.append(summary, element("pre", JSON.stringify(content, null, 2)));
    item.append(details);
  } else {
    item.append(line);
  }
  log.append(item);
  while (log.children.length > 200) log.firstChild.remove();
  log.scrollTop = log.scrollHeight;
}

// element makes one with a text, followed by a child or with a class.
function element(name, text, more) {
  const made = document.createElement(name);
  made.textContent = text;
  if (typeof more === "string") made.className = more;
  else if (more) made.append(more);
  return made;
}

// Requests

async function request(method, path, body) {
  try {
    const response = await fetch(words.base + path, {
      method,
      credentials: "include",
      headers: body ? { "Content-Type": "application/json" } : {},
      body: body && JSON.stringify(body),
    });
    const result = response.status === 204 ? null : await response.json();
    answer.textContent = `${response.status} ${response.statusText}\n\n${JSON.stringify(result, null, 2)}`;
    if (path === "about" && response.ok) publicKey = result.publicKey;
    if (path === "token" && response.ok) showToken(result.token);
    return { status: response.status, body: result };
  } catch (error) {
    answer.textContent = `${words.failed}: ${error.message}`;
    return { status: 0, body: null };
  }
}

async function patch(name) {
  const { status, body: user } = await request("GET", "currentUser");
  if (status === 401) {
    answer.textContent = words.signedOut;
    return;
  }
  if (status === 200) await request("PATCH", `users/${user.id ?? user._id}`, { name });
}

// The token

// algorithms are the names of RFC 7518 as WebCrypto understands them.
const algorithms = {
  RS256: { name: "RSASSA-PKCS1-v1_5", hash: "SHA-256" },
  RS384: { name: "RSASSA-PKCS1-v1_5", hash: "SHA-384" },
  RS512: { name: "RSASSA-PKCS1-v1_5", hash: "SHA-512" },
  PS256: { name: "RSA-PSS", hash: "SHA-256", saltLength: 32 },
  PS384: { name: "RSA-PSS", hash: "SHA-384", saltLength: 48 },
  PS512: { name: "RSA-PSS", hash: "SHA-512", saltLength: 64 },
  ES256: { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" },
  ES384: { name: "ECDSA", namedCurve: "P-384", hash: "SHA-384" },
  EdDSA: { name: "Ed25519" },
};

const bytes = (base64) => Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
const fromBase64URL = (text) => bytes(text.replaceAll("-", "+").replaceAll("_", "/"));
const decode = (part) => JSON.parse(new TextDecoder().decode(fromBase64URL(part)));

async function showToken(token) {
  const turn = ++latest;
  const [header, payload, signature] = token.split(".");
  document.getElementById("token-raw").textContent = token;
  document.getElementById("token-header").textContent = JSON.stringify(decode(header), null, 2);
  document.getElementById("token-payload").textContent = JSON.stringify(decode(payload), null, 2);
  const [state, text] = await verify(header, payload, signature);
  if (turn !== latest) return;
  const status = document.getElementById("token-status");
  status.dataset.state = state;
  status.textContent = text;
}

// verify says whether the signature is by the server's key, which the browser
// computes; the server is not asked.
async function verify(header, payload, signature) {
  if (!crypto.subtle) return ["busy", words.insecure];
  const { alg } = decode(header);
  const algorithm = algorithms[alg];
  if (!algorithm) return ["busy", `${words.unsupported}: ${alg}`];
  try {
    if (!publicKey) await fetchKey();
    const spki = bytes(publicKey.replace(/-----[^-]+-----|\s/g, ""));
    const key = await crypto.subtle.importKey("spki", spki, algorithm, false, ["verify"]);
    const signed = new TextEncoder().encode(`${header}.${payload}`);
    if (!await crypto.subtle.verify(algorithm, key, fromBase64URL(signature), signed)) return ["bad", words.invalid];
    const expired = decode(payload).exp * 1000 < Date.now();
    return expired ? ["busy", words.expired] : ["good", `${words.valid} (${alg})`];
  } catch (error) {
    return ["bad", `${words.invalid}: ${error.message || error.name}`];
  }
}

async function fetchKey() {
  const response = await fetch(`${words.base}about`, { credentials: "include" });
  publicKey = (await response.json()).publicKey;
}

// Buttons

for (const button of demo.querySelectorAll("button[data-send]")) {
  button.addEventListener("click", () => send(button.dataset.send));
}
for (const button of demo.querySelectorAll("button[data-get]")) {
  button.addEventListener("click", () => request("GET", button.dataset.get));
}
demo.querySelector("[data-action=reconnect]").addEventListener("click", connect);
demo.querySelector("[data-action=clear]").addEventListener("click", () => log.replaceChildren());
document.getElementById("patch").addEventListener("submit", (event) => {
  event.preventDefault();
  patch(event.target.elements.name.value);
});

connect();
