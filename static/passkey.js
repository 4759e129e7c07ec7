// Asks authenticators for passkeys (Web Authentication). A form with data-passkey says what it
// wants, "get" or "create", and where the question is had; it is posted with the answer.
"use strict";
{
  const form = document.querySelector("form[data-passkey]");
  const creates = form.dataset.passkey === "create";
  const button = form.querySelector("button[type=submit]");
  const message = form.querySelector("#passkey-error");

  // Binary values travel in base64url.
  const bytes = (text) => Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
  const text = (buffer) => buffer && btoa(Array.from(new Uint8Array(buffer), (b) => String.fromCharCode(b)).join(""))
    .replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
  const named = (list) => list?.map((known) => ({ ...known, id: bytes(known.id) }));

  // begin has the server ask. What has to come first, such as a fresh sign-in, the page leads to.
  const begin = async () => {
    const response = await fetch(form.dataset.begin, { method: "POST", headers: { Accept: "application/json" } });
    const answer = await response.json();
    if (answer.code === "confirm" || answer.code === "expired") location.reload();
    if (!response.ok) throw new Error(answer.code);
    const { options, ceremony } = answer;
    options.challenge = bytes(options.challenge);
    options.allowCredentials = named(options.allowCredentials);
    options.excludeCredentials = named(options.excludeCredentials);
    if (options.user) options.user.id = bytes(options.user.id);
    return { ceremony, options };
  };

  // finish posts what the authenticator has answered.
  const finish = (ceremony, credential) => {
    const { response } = credential;
    form.elements.ceremony.value = ceremony;
    form.elements.answer.value = JSON.stringify({
      id: credential.id, rawId: text(credential.rawId), type: credential.type,
      authenticatorAttachment: credential.authenticatorAttachment ?? undefined,
      clientExtensionResults: {},
      response: creates
        ? { clientDataJSON: text(response.clientDataJSON), attestationObject: text(response.attestationObject), transports: response.getTransports?.() }
        : { clientDataJSON: text(response.clientDataJSON), authenticatorData: text(response.authenticatorData), signature: text(response.signature), userHandle: text(response.userHandle) ?? undefined },
    });
    form.submit();
  };

  let waiting; // what the browser offers in a field, until something else is asked
  const ask = async () => {
    waiting?.abort();
    message.hidden = true;
    button.setAttribute("aria-busy", "true");
    try {
      const { ceremony, options } = await begin();
      finish(ceremony, creates ? await navigator.credentials.create({ publicKey: options }) : await navigator.credentials.get({ publicKey: options }));
    } catch (error) {
      button.removeAttribute("aria-busy");
      const { known, cancelled, failed } = form.dataset;
      message.textContent = error.name === "InvalidStateError" ? known : error.name === "NotAllowedError" ? cancelled : failed;
      message.hidden = false;
      offer();
    }
  };

  // offer lets the browser offer passkeys in the field for the address. The server forgets a
  // question after five minutes, so it is asked anew before.
  const fresh = 4 * 60 * 1000;
  const offer = async () => {
    if (form.dataset.autofill === undefined || !await PublicKeyCredential.isConditionalMediationAvailable?.()) return;
    const mine = waiting = new AbortController();
    const { signal } = mine;
    try {
      const { ceremony, options } = await begin();
      if (signal.aborted) return;
      setTimeout(() => { if (waiting === mine) { mine.abort(); offer(); } }, fresh);
      finish(ceremony, await navigator.credentials.get({ publicKey: options, mediation: "conditional", signal }));
    } catch {
      // Nobody has asked for it: the button is there all the same.
    }
  };

  if (window.PublicKeyCredential && isSecureContext) {
    button.hidden = false;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (button.getAttribute("aria-busy") !== "true") ask();
    });
    addEventListener("pageshow", () => button.removeAttribute("aria-busy"));
    if (form.dataset.now === undefined) offer();
    else ask();
  } else {
    form.querySelector("#passkey-unable").hidden = false;
  }
}
