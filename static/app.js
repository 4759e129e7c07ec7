// What makes the pages more comfortable. All of them work without it.
"use strict";

// Moments are written in UTC by the server; show them in the person's own time.
// In the page's language, the way that the browser's region writes it.
const lang = document.documentElement.lang;
const locale = navigator.languages.find((tag) => tag.split("-")[0] === lang) ?? lang;
const moment = new Intl.DateTimeFormat(locale, { dateStyle: "medium", timeStyle: "short" });
for (const time of document.querySelectorAll("time[datetime]")) {
  const date = new Date(time.dateTime);
  if (!Number.isNaN(date.valueOf())) {
    time.title = time.textContent;
    time.textContent = moment.format(date);
  }
}

// A button beside a password shows and hides it.
for (const button of document.querySelectorAll("button[data-reveal]")) {
  const field = document.getElementById(button.dataset.reveal);
  const { textContent: show, ariaLabel: showLabel } = button;
  const reveal = (shown) => {
    field.type = shown ? "text" : "password";
    button.textContent = shown ? button.dataset.hide : show;
    button.ariaLabel = shown ? button.dataset.hideLabel : showLabel;
  };
  button.addEventListener("click", () => reveal(field.type === "password"));
  // Browsers remember what was typed into text fields; it leaves as a password.
  field.form.addEventListener("submit", () => reveal(false));
  button.hidden = false;
}

// A button beside an address copies it. Only secure pages may.
for (const button of document.querySelectorAll("button[data-copy]")) {
  if (!navigator.clipboard) break;
  const label = button.textContent;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
    button.textContent = button.dataset.copied;
    setTimeout(() => { button.textContent = label; }, 2000);
  });
  button.hidden = false;
}

// A form is sent once, until the page is shown again.
for (const form of document.querySelectorAll("form[data-busy]")) {
  const button = form.querySelector("button[type=submit]");
  form.addEventListener("submit", (event) => {
    if (button.getAttribute("aria-busy") === "true") event.preventDefault();
    button.setAttribute("aria-busy", "true");
  });
  addEventListener("pageshow", () => button.removeAttribute("aria-busy"));
}

// An answer to a client that is posted goes off by itself.
document.querySelector("form[data-submit]")?.submit();

// A page that tells applications of a logout goes on once its frames are loaded.
addEventListener("load", () => document.querySelector("a[data-continue]")?.click());
