// Elements and requests. Text becomes text, never markup.

export function el(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return made;
}

export class Refused extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

export async function ask(path, options = {}) {
  const answer = await fetch(path, { credentials: "same-origin", redirect: "error", ...options });
  if (answer.ok) return answer;
  let text = `${answer.status} ${answer.statusText}`;
  try {
    text = (await answer.json()).detail ?? text;
  } catch {
    // not every refusal is a problem detail; its status is said then
  }
  throw new Refused(answer.status, text);
}

export const json = async (path, options) => (await ask(path, options)).json();

export function say(text, isWrong = false) {
  const place = document.getElementById("said");
  place.textContent = text;
  place.classList.toggle("wrong", isWrong);
}

// A table whose first column heads the rows; "stacks": on a narrow screen each row becomes a block of its own.
export function table(caption, names, rows, { numbers = [], stacks = false } = {}) {
  const kind = (i) => (numbers.includes(i) ? "number" : null);
  const body = rows.map((row) =>
    el("tr", {}, row.map((cell, i) =>
      el(i ? "td" : "th", { scope: i ? null : "row", class: kind(i), "data-name": i && stacks ? names[i] : null }, cell),
    )),
  );
  const heads = names.map((name, i) => el("th", { scope: "col", class: kind(i) }, name));
  return el("div", { class: "scrolls", role: "group", tabindex: "0", "aria-label": caption },
    el("table", { class: stacks ? "stacks" : null },
      el("caption", {}, caption), el("thead", {}, el("tr", {}, heads)), el("tbody", {}, body)));
}

export const state = (name) => el("span", { class: `state ${name}` }, name);

export const counted = (counts) =>
  Object.entries(counts).map(([name, count]) => `${count} ${name === "error" && count !== 1 ? "errors" : name}`).join(", ");

export const moment = (seconds) => (seconds ? new Date(seconds * 1000).toLocaleString() : "");

// A study that nobody gave a name is called by the beginning of its own id.
export const called = (job) => (job.case === job.id ? `${job.id.slice(0, 8)}…` : job.case);
