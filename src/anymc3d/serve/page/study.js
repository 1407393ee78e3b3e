// One study: every plugin's answer, downloads, and the report of one plugin with its three planes.

import { ask, called, el, json, moment, say, state, table } from "./dom.js";

const ENDED = ["done", "error"];
const WAYS = { http: "an upload", watch: "the watched folder" };

export async function study(main, id, current) {
  const { plugins } = await json("v1/plugins");
  let job = await json(`v1/jobs/${id}`);
  const head = el("div", {});
  main.replaceChildren(head);
  while (current()) {
    document.title = `${called(job)}, ${job.status}: anymc3d`;
    head.replaceChildren(el("h1", {}, `Case ${called(job)} `, state(job.status)), facts(job));
    if (ENDED.includes(job.status)) break;
    say("The answer appears here when it is ready.");
    job = await json(`v1/jobs/${id}?wait=20`);
  }
  if (!current()) return;
  say("");
  const known = Object.fromEntries(plugins.map((plugin) => [plugin.name, plugin]));
  for (const name of job.unlike_training) {
    main.append(el("p", { class: "verdict warning" }, `Do not use the answer of ${name}: the scan is unlike those it was trained on.`));
  }
  for (const plugin of plugins.filter((one) => job.rows.some((row) => row.plugin === one.name))) {
    for (const doubt of plugin.doubts) main.append(el("p", { class: "verdict warning" }, `Plugin ${plugin.name}: ${doubt}`));
  }
  main.append(answers(job, known), ...record(job), downloads(job, id));
  const reports = job.links.filter((link) => link.kind === "report");
  if (reports.length) await choose(main, reports, current);
}

function facts(job) {
  const lines = [["Id", job.id], ["Received", moment(job.received)], ["Came by", WAYS[job.source] ?? job.source]];
  if (job.finished) lines.push(["Answered", `${moment(job.finished)}, after ${(job.finished - job.received).toFixed(1)} s`]);
  if (job.record.device) lines.push(["Computed on", job.record.device]);
  return el("dl", { class: "facts" }, lines.map(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
}

function answers(job, known) {
  const parts = [el("h2", { id: "answers" }, "Answers of all plugins")];
  const rows = job.rows.flatMap((row) => lines(row, known[row.plugin], job.unlike_training.includes(row.plugin)));
  const names = ["Plugin", "Label", "Answer", "Probability", "Operating point"];
  const caption = "At or above its operating point, the line across its bar, a label is positive";
  if (rows.length) parts.push(table(caption, names, rows, { numbers: [3, 4], stacks: true }));
  const notes = job.rows.filter((row) => row.message).map((row) =>
    el("article", { class: row.status === "error" ? "error" : "warning" },
      el("h3", {}, `${row.plugin}: ${row.status === "error" ? "no answer" : "warning"}`),
      row.status === "error" ? el("p", {}, row.message) // one sentence; "; " stands between its reason and what to do
        : el("ul", {}, row.message.split("; ").map((text) => el("li", {}, text)))));
  if (!job.rows.length && job.message) notes.push(el("p", { class: "verdict error" }, job.message));
  for (const text of job.record.notes ?? []) notes.push(el("p", { class: "quiet" }, text));
  return el("section", { "aria-labelledby": "answers" }, parts, notes);
}

// What the rules of the service decided, and where the DICOM objects went.
function record(job) {
  const rules = (job.record.routing ?? []).map((one) => [`${one.rule}, ${one.plugin}`, one.decision, one.reason]);
  const sent = job.deliveries.map((one) => [one.file, one.peer, state(one.state), one.message]);
  const shown = (id, title, ...inside) => el("section", { "aria-labelledby": id }, el("h2", { id }, title), inside);
  return [
    rules.length ? shown("rules", "Which plugin was given what",
      table("By the rules of this service", ["Rule", "Decision", "Reason"], rules, { stacks: true })) : "",
    sent.length ? shown("sent", "Sent to archives",
      table("DICOM objects", ["File", "To", "State", "Reason"], sent, { stacks: true })) : "",
  ];
}

function lines(row, plugin, isUnlike) {
  const numbers = Object.keys(row).filter((key) => key.startsWith("value."))
    .map((key) => [row.plugin, key.slice(6), marked(el("strong", {}, String(Number(row[key].toPrecision(5)))), isUnlike), "", ""]);
  return [...numbers, ...decisions(row, plugin, isUnlike)];
}

const marked = (answer, isUnlike) =>
  isUnlike ? [answer, " ", el("span", { class: "state warning" }, "do not use")] : answer;

function decisions(row, plugin, isUnlike) {
  const found = Object.keys(row).filter((key) => key.startsWith("decision.")).map((key) => key.slice(9));
  return found.map((label) => {
    const point = plugin?.operating_points?.[label] ?? null;
    const isYes = Boolean(row[`decision.${label}`]);
    const words = plugin && plugin.one_of_classes ? ["not decided", "decided"] : ["negative", "positive"];
    return [
      row.plugin, label, marked(isYes ? el("strong", {}, words[1]) : words[0], isUnlike),
      [row[`probability.${label}`].toFixed(3), meter(row[`probability.${label}`], point?.probability)],
      point ? point.probability.toFixed(3) : "",
    ];
  });
}

function meter(share, threshold) {
  const space = "http://www.w3.org/2000/svg";
  const draw = (name, attributes) => {
    const made = document.createElementNS(space, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  };
  const made = draw("svg", { class: "meter", viewBox: "0 0 100 14", preserveAspectRatio: "none", "aria-hidden": "true" });
  made.append(draw("rect", { class: "frame", x: 0, y: 2, width: 100, height: 10 }));
  made.append(draw("rect", { x: 0, y: 2, width: 100 * share, height: 10 }));
  if (threshold !== undefined) made.append(draw("path", { class: "mark", d: `M${100 * threshold} 0V14` }));
  return made;
}

function downloads(job, id) {
  const items = job.links.map((link) => el("li", {}, el("a", { href: link.href.slice(1), download: link.name }, link.title)));
  const remove = async () => {
    if (!confirm("Remove this study with all its files?")) return;
    await ask(`v1/jobs/${id}`, { method: "DELETE" });
    location.hash = "#/";
  };
  return el("section", { "aria-labelledby": "downloads" },
    el("h2", { id: "downloads" }, "Downloads"),
    items.length ? el("ul", { class: "downloads" }, items) : el("p", {}, "None."),
    el("p", { class: "removal" }, el("button", { type: "button", onclick: remove }, "Remove this study")));
}

async function choose(main, reports, current) {
  const place = el("div", { id: "report" });
  const buttons = reports.map((link) => el("button", { type: "button", "aria-pressed": "false" }, link.plugin));
  const open = async (index) => {
    buttons.forEach((button, i) => button.setAttribute("aria-pressed", String(i === index)));
    await report(place, reports[index].href.slice(1), current);
  };
  buttons.forEach((button, i) => button.addEventListener("click", () => open(i).catch((error) => say(error.message, true))));
  main.append(
    buttons.length > 1 ? el("div", { class: "bar", role: "group", "aria-label": "Plugin" }, "Report of plugin", buttons) : "",
    place);
  await open(0);
}

// The report's own elements, without its scripts; the viewer is the same program, from this service.
async function report(place, path, current) {
  const text = await (await ask(path)).text();
  if (!current()) return;
  // Its head holds its own style, which this page has already and would refuse; everything in <main> is escaped text.
  const inner = text.slice(text.indexOf("<header>"), text.indexOf("</main>")).replaceAll(' style="', ' data-style="');
  const page = new DOMParser().parseFromString(inner, "text/html");
  for (const script of page.querySelectorAll("script:not([type='application/json'])")) script.remove();
  delete document.documentElement.dataset.viewer;
  const sections = [...page.querySelector("main").children];
  const is = (...names) => (part) => names.includes(part.getAttribute("aria-labelledby"));
  const [isPicture, isAbove] = [is("heat", "slices"), is("warnings")]; // this page has the warnings with all answers
  place.replaceChildren(
    ...sections.filter(isPicture), ...sections.filter((part) => !isPicture(part) && !isAbove(part)));
  for (const part of place.querySelectorAll("[data-style]")) part.style.cssText = part.dataset.style;
  window.startViewer();
}
