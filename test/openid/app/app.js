// An application without a server, as its authors would write it with oidc-client-ts. Tests
// look at window.app.

const { issuer } = await (await fetch("/settings.json")).json()

const manager = new oidc.UserManager({
  authority: issuer,
  client_id: "spa",
  redirect_uri: location.origin + "/",
  post_logout_redirect_uri: location.origin + "/bye",
  scope: "openid profile session_events",
  loadUserInfo: true,
  automaticSilentRenew: false,
  userStore: new oidc.WebStorageStateStore({ store: localStorage }),
})

const app = { manager, user: null, signedOut: null, error: null, heard: [] }

// listen opens the events of the session, with the access token and nothing else.
app.listen = () => {
  const socket = new WebSocket(issuer.replace("https:", "wss:") + "/")
  socket.onopen = () => socket.send(JSON.stringify({ type: "authenticate", token: app.user.access_token }))
  socket.onmessage = ({ data }) => {
    const { type, data: content } = JSON.parse(data)
    app.heard.push({ type, content, at: Date.now() })
  }
  socket.onclose = ({ code }) => app.heard.push({ type: "closed", content: code, at: Date.now() })
}

try {
  if (location.pathname === "/bye") {
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
