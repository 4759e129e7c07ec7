// Answers the challenge of a form: does the work of it, or puts a picture or a recording in
// its place. What the work is stands in package challenge of the server.
"use strict";

// SHA-256 (FIPS 180-4) of texts below 56 bytes, which are one block. crypto.subtle answers each
// hash through a promise, which takes many times as long as the hash, and is not there
// over http.
const primes = [];
for (let n = 2; primes.length < 64; n++) {
  if (primes.every((p) => n % p)) primes.push(n);
}
const fraction = (x) => ((x - Math.floor(x)) * 0x100000000) | 0;
const constants = Int32Array.from(primes, (p) => fraction(Math.cbrt(p)));
const start = Int32Array.from(primes.slice(0, 8), (p) => fraction(Math.sqrt(p)));
const schedule = new Int32Array(64);
const block = new Uint8Array(64);
const words = new DataView(block.buffer);

// firstWord is the first of the eight words of the hash of the block's first length bytes.
function firstWord(length) {
  block.fill(0, length);
  block[length] = 0x80;
  words.setUint16(62, length * 8);
  const w = schedule;
  for (let i = 0; i < 16; i++) w[i] = words.getInt32(i * 4);
  for (let i = 16; i < 64; i++) {
    const x = w[i - 15], y = w[i - 2];
    w[i] = w[i - 16] + w[i - 7] +
      (((x >>> 7) | (x << 25)) ^ ((x >>> 18) | (x << 14)) ^ (x >>> 3)) +
      (((y >>> 17) | (y << 15)) ^ ((y >>> 19) | (y << 13)) ^ (y >>> 10));
  }
  let a = start[0], b = start[1], c = start[2], d = start[3];
  let e = start[4], f = start[5], g = start[6], h = start[7];
  for (let i = 0; i < 64; i++) {
    const one = (h + (((e >>> 6) | (e << 26)) ^ ((e >>> 11) | (e << 21)) ^ ((e >>> 25) | (e << 7))) +
      ((e & f) ^ (~e & g)) + constants[i] + w[i]) | 0;
    const two = ((((a >>> 2) | (a << 30)) ^ ((a >>> 13) | (a << 19)) ^ ((a >>> 22) | (a << 10))) +
      ((a & b) ^ (a & c) ^ (b & c))) | 0;
    h = g; g = f; f = e; e = (d + one) | 0;
    d = c; c = b; b = a; a = (one + two) | 0;
  }
  return (start[0] + a) >>> 0;
}

// write puts ASCII text into the block from a position on, and returns where it ends.
function write(text, at) {
  for (let i = 0; i < text.length; i++) block[at + i] = text.charCodeAt(i);
  return at + text.length;
}

// Between pieces of work of a few milliseconds the page lives on. A timer would be held
// back to once a second in a tab that nobody looks at.
const turn = new MessageChannel();
const breathe = () => new Promise((resolve) => {
  turn.port1.onmessage = resolve;
  turn.port2.postMessage(null);
});

// solve does the work; stopped tells it that nobody waits for it any more.
async function solve({ salt, bits, count }, stopped) {
  const limit = 2 ** (32 - bits); // of the first word
  const numbers = [];
  let pause = performance.now() + 12;
  for (let i = 0; i < count; i++) {
    const prefix = `${salt}.${i}.`;
    for (let n = 0; ; n++) {
      if (n % 256 === 0) {
        if (performance.now() > pause) {
          await breathe();
          if (stopped()) return "";
          pause = performance.now() + 12;
        }
        write(prefix, 0); // others may have written there meanwhile
      }
      if (firstWord(write(String(n), prefix.length)) < limit) {
        numbers.push(n);
        break;
      }
    }
  }
  return numbers.join(",");
}

// margin is how long before its end a challenge is not used any more, and life how long one
// that came with the page lasts, in milliseconds.
const margin = 30_000;
const life = 600_000;

for (const part of document.querySelectorAll("[data-challenge]")) {
  const form = part.closest("form");
  const id = part.querySelector("[name=challenge_id]");
  const kind = part.querySelector("[name=challenge_kind]");
  const answer = part.querySelector("[name=challenge_answer]");
  const state = part.querySelector(".challenge-state");
  const signs = part.querySelector(".challenge-signs");
  let puzzle = { salt: part.dataset.salt, bits: Number(part.dataset.bits), count: Number(part.dataset.count) };
  let expires = performance.now() + life;
  let work; // a promise of whether there is an answer; undefined: not begun

  const say = (name) => {
    for (const text of part.querySelectorAll("[data-state]")) text.hidden = text.dataset.state !== name;
  };

  // show puts a challenge in the place of the one that is there.
  const show = (challenge) => {
    work = undefined;
    id.value = challenge.id;
    kind.value = challenge.kind;
    answer.value = "";
    answer.inputMode = challenge.kind === "audio" ? "numeric" : "text";
    puzzle = challenge.work;
    expires = performance.now() + challenge.seconds * 1000;
    state.hidden = challenge.kind !== "work";
    signs.hidden = challenge.kind === "work";
    for (const piece of part.querySelectorAll("[data-kind]")) piece.hidden = piece.dataset.kind !== challenge.kind;
    const [image, audio] = [part.querySelector("img"), part.querySelector("audio")];
    if (challenge.image) image.src = challenge.image; else image.removeAttribute("src");
    if (challenge.audio) audio.src = challenge.audio; else audio.removeAttribute("src");
    for (const other of part.querySelectorAll("[data-other]")) {
      const same = other.dataset.other === challenge.kind;
      other.querySelector("[data-same]").hidden = !same;
      other.querySelector("[data-instead]").hidden = same;
    }
    answer.removeAttribute("aria-invalid");
    answer.setAttribute("aria-describedby", "challenge-hint");
    part.querySelector("#challenge-error")?.remove();
    say(challenge.kind === "work" ? "ready" : "");
  };

  const fetchOne = async (which) => {
    const address = new URL(part.dataset.source, location.href);
    address.searchParams.set("kind", which);
    const response = await fetch(address, { headers: { Accept: "application/json" } });
    if (!response.ok) throw new Error(`challenge: status ${response.status}`);
    show(await response.json());
  };

  // begin does the work, unless it is done or under way. The answer is true if the form can
  // be sent.
  const begin = () => {
    work ??= (async () => {
      const mine = id.value;
      say("working");
      const numbers = await solve(puzzle, () => id.value !== mine);
      await breathe(); // a form cannot be sent while it says that it is
      if (id.value !== mine) return false;
      answer.value = numbers;
      say("done");
      return true;
    })();
    return work;
  };

  const old = () => performance.now() > expires - margin;

  // ready is begin for a challenge that may be too old by now.
  const ready = async () => {
    if (old()) await fetchOne("work");
    return begin();
  };

  if (kind.value === "work") {
    answer.value = ""; // browsers fill in again what was there before a reload
    say("ready");
  }
  // The first touch: a field that is gone to or, if it has the focus already, its first letter.
  for (const event of ["focusin", "input", "pointerdown"]) {
    form.addEventListener(event, () => { if (kind.value === "work") begin(); }, { once: true });
  }

  // Before any other listener: the form is not sent, and not marked as sent, until there
  // is an answer.
  let waiting = false;
  addEventListener("submit", async (event) => {
    if (event.target !== form || kind.value !== "work" || answer.value && !old()) return;
    event.preventDefault();
    event.stopPropagation();
    if (waiting) return;
    waiting = true;
    try {
      if (await ready()) form.requestSubmit(event.submitter);
    } catch (error) {
      console.warn(error);
      say("failed");
    } finally {
      waiting = false;
    }
  }, { capture: true });

  for (const other of part.querySelectorAll("[data-other]")) {
    other.setAttribute("role", "button");
    const ask = async (event) => {
      event.preventDefault();
      try {
        await fetchOne(other.dataset.other);
        if (other.dataset.other === "audio") part.querySelector("audio").focus(); else answer.focus();
      } catch (error) {
        console.warn(error);
        say("failed");
      }
    };
    other.addEventListener("click", ask);
    other.addEventListener("keydown", (event) => { if (event.key === " ") ask(event); });
  }

  // A page that the back button leads to has a challenge that was answered.
  addEventListener("pageshow", (event) => {
    if (event.persisted) fetchOne("work").catch(() => say("failed"));
  });
}
