// An application without a server, as its authors would write it with oidc-client-ts. Tests
// look at window.app.

const { issuer, monitor } = await (await fetch("/settings.json")).json()

const manager = new oidc.UserManager({
  authority: issuer,
  client_id: "spa",
  redirect_uri: location.origin + "/",
  post_logout_redirect_uri: location.origin + "/bye",
  scope: "openid profile session_events",
  loadUserInfo: true,
  automaticSilentRenew: false,
  silent_redirect_uri: location.origin + "/silent",
  monitorSession: monitor,
  checkSessionIntervalInSeconds: 1,
  userStore: new oidc.WebStorageStateStore({ store: localStorage }),
})

const app = { manager, user: null, signedOut: null, error: null, heard: [] }

function note(by, type, content) {
  app.heard.push({ by, type, content, at: Date.now() })
}

// listen opens the events of the session, with the access token and nothing else.
app.listen = () => {
  const socket = new WebSocket(issuer.replace("https:", "wss:") + "/")
  socket.onopen = () => socket.send(JSON.stringify({ type: "authenticate", token: app.user.access_token }))
  socket.onmessage = ({ data }) => {
    const message = JSON.parse(data)
    note("socket", message.type, message.data)
  }
  socket.onclose = ({ code }) => note("socket", "closed", code)
}

// stream opens them as Server-Sent Events, with a ticket.
app.stream = async () => {
  const response = await fetch(issuer + "/events/ticket", { method: "POST", headers: { authorization: "Bearer " + app.user.access_token } })
  const { ticket } = await response.json()
  const events = new EventSource(issuer + "/events?ticket=" + encodeURIComponent(ticket))
  for (const type of ["loggedIn", "loggedOut", "updated", "token"]) {
    events.addEventListener(type, ({ data }) => note("stream", type, JSON.parse(data).data))
  }
  events.addEventListener("loggedOut", () => events.close())
}

// userinfo is the status that the userinfo endpoint has for an access token.
app.userinfo = async token => (await fetch(issuer + "/oauth/userinfo", { headers: { authorization: "Bearer " + token } })).status

manager.events.addUserSignedOut(() => note("frame", "signedOut", null))

try {
  if (location.pathname === "/silent") {
    await manager.signinSilentCallback()
  } else if (location.pathname === "/bye") {
    app.signedOut = await manager.signoutCallback()
  } else if (new URLSearchParams(location.search).has("state")) {
    app.user = await manager.signinCallback()
    history.replaceState(null, "", "/")
  } else {
    app.user = await manager.getUser()
  }
} catch (error) {
  app.error = String(error)
}
window.app = app
