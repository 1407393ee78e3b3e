// Which of the pages is shown. The part after # says it: "#/", "#/jobs/ID", "#/service".

import { Refused, ask, el, say } from "./dom.js";
import { queue } from "./queue.js";
import { service } from "./service.js";
import { study } from "./study.js";

const main = document.getElementById("main");
const signOut = document.getElementById("sign-out");
const SIGNED_IN = "anymc3d signed in"; // not the session itself, which no script can read
let shown = 0;

async function show() {
  const number = ++shown;
  const current = () => number === shown;
  const place = location.hash || "#/";
  const [, job] = place.match(/^#\/jobs\/([0-9a-f]{32})$/) ?? [];
  for (const link of document.querySelectorAll(".banner nav a")) {
    if (link.getAttribute("href") === place) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  say("");
  signOut.hidden = !localStorage.getItem(SIGNED_IN);
  try {
    if (job) await study(main, job, current);
    else if (place === "#/service") await service(main, current);
    else await queue(main, current);
  } catch (error) {
    if (!current()) return;
    if (error instanceof Refused && error.status === 401) login();
    else {
      say(`This did not work: ${error.message}`, true);
      setTimeout(() => current() && !main.childElementCount && show(), 3000);
    }
  }
}

signOut.addEventListener("click", async () => {
  await ask("v1/session", { method: "DELETE" }).catch(() => null); // without a session there is nothing to end
  localStorage.removeItem(SIGNED_IN);
  location.hash = "#/";
  location.reload();
});

function login() {
  signOut.hidden = true;
  const field = el("input", { type: "password", id: "token", autocomplete: "current-password", required: true });
  const send = async (event) => {
    event.preventDefault();
    try {
      const body = JSON.stringify({ token: field.value.trim() });
      await ask("v1/session", { method: "POST", headers: { "content-type": "application/json" }, body });
      localStorage.setItem(SIGNED_IN, "yes");
      show();
    } catch (error) {
      say(error.message, true);
      field.focus();
    }
  };
  main.replaceChildren(
    el("form", { class: "login", onsubmit: send },
      el("h1", {}, "Sign in"),
      el("p", {}, "This service asks for its token, the first line of its token file. It is kept for this browser until it closes."),
      el("p", { class: "field" }, el("label", { for: "token" }, "Token"), field),
      el("p", {}, el("button", { type: "submit" }, "Sign in")),
    ),
  );
  field.focus();
}

window.addEventListener("hashchange", () => {
  if (location.hash === "#main") return; // the link to the content
  main.replaceChildren();
  show().then(() => main.focus());
});
show();
