// The queue as it is now, and the place where studies are dropped.

import { Refused, el, json, moment, say, state, table } from "./dom.js";
import { dropped, studies } from "./zip.js";

const NAMES = ["Case", "State", "Answer or reason", "Received", "Seconds"];
const [FAST_MS, SLOW_MS] = [1500, 8000];
const COUNT = 50;

export async function queue(main, current) {
  const { plugins } = await json("v1/plugins");
  if (!current()) return;
  const list = el("div", { id: "jobs" });
  main.replaceChildren(
    el("h1", {}, "Studies"),
    dropZone(plugins, () => refresh(list)),
    el("section", { "aria-labelledby": "queue-title" }, el("h2", { id: "queue-title" }, "Queue"), list),
  );
  await refresh(list);
  const again = async () => {
    if (!current()) return;
    let isActive = false;
    try {
      isActive = !document.hidden && (await refresh(list));
      if (document.getElementById("said").dataset.lost) say("");
      delete document.getElementById("said").dataset.lost;
    } catch (error) {
      if (error instanceof Refused && error.status === 401) return location.reload();
      say("The service does not answer; this page tries again.", true);
      document.getElementById("said").dataset.lost = "1";
    }
    setTimeout(again, isActive ? FAST_MS : SLOW_MS);
  };
  setTimeout(again, FAST_MS);
}

// Returns whether something waits or runs.
async function refresh(list) {
  const { jobs, counts } = await json(`v1/jobs?count=${COUNT}`);
  const text = JSON.stringify([jobs, counts]);
  if (list.dataset.text !== text) {
    const focused = list.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
    list.dataset.text = text;
    const said = Object.entries(counts).map(([name, count]) => `${count} ${name}`).join(", ");
    const rows = jobs.map((job) => [
      el("a", { href: `#/jobs/${job.id}` }, job.case),
      state(job.status),
      answer(job),
      moment(job.received),
      job.finished ? (job.finished - job.received).toFixed(1) : "",
    ]);
    list.replaceChildren(
      el("p", { class: "quiet" }, `${said}.`),
      rows.length
        ? table("Newest first", NAMES, rows, { numbers: [4], stacks: true })
        : el("p", {}, "Nothing has been sent yet."),
    );
    if (focused) list.querySelector(`a[href="${focused}"]`)?.focus();
  }
  return counts.queued + counts.running > 0;
}

function answer(job) {
  if (job.status !== "done") return job.message.slice(0, 200);
  if (job.unlike_training.length) return `do not use: unlike the training scans (${job.unlike_training.join(", ")})`;
  const text = job.decided.length ? job.decided.join(", ") : "no label is positive";
  return job.warned ? [text, " ", el("span", { class: "state warning" }, "with warnings")] : text;
}

function dropZone(plugins, sent) {
  const files = el("input", { type: "file", id: "files", multiple: true });
  const name = el("input", { id: "case", maxlength: "64", autocomplete: "off", spellcheck: "false" });
  const series = el("input", { id: "series", maxlength: "500", autocomplete: "off", spellcheck: "false" });
  const boxes = plugins.map((plugin) => el("input", { type: "checkbox", value: plugin.name, checked: true }));
  const progress = el("ul", { class: "sending" });
  const send = async (files_) => {
    const names = boxes.filter((box) => box.checked).map((box) => box.value);
    if (!names.length) return say("Choose at least one plugin.", true);
    const chosen = await studies(files_);
    for (const file of chosen) {
      const fields = { case: chosen.length === 1 ? name.value.trim() : "", series: series.value.trim() };
      fields.plugins = names.length === boxes.length ? "" : names.join(",");
      await upload(file, fields, progress);
    }
    files.value = name.value = "";
    await sent();
  };
  const submit = (event) => {
    event.preventDefault();
    if (files.files.length) send([...files.files]).catch((error) => say(error.message, true));
    else say("Choose a file first, or drop one here.", true);
  };
  const chooser = el("fieldset", {}, el("legend", {}, "Plugins"),
    boxes.map((box) => el("label", {}, box, box.value)));
  const zone = el("form", { class: "drop", onsubmit: submit, "aria-labelledby": "drop-title" },
    el("h2", { id: "drop-title" }, "Send a study"),
    el("p", {}, "Drop files or a folder here, or choose them: .nii.gz or .nii, a .zip of one DICOM study, or its files, " +
      "which are sent together as one study."),
    el("div", { class: "fields" },
      el("div", { class: "field" }, el("label", { for: "files" }, "Files"), files),
      el("div", { class: "field" }, el("label", { for: "case" }, "Case (no patient identifier)"), name),
      el("div", { class: "field" }, el("label", { for: "series" }, "DICOM series, as --series"), series),
      boxes.length > 1 ? chooser : null,
      el("button", { type: "submit" }, "Send"),
    ), progress);
  const over = (isOver) => (event) => {
    event.preventDefault();
    zone.classList.toggle("over", isOver);
  };
  zone.addEventListener("dragover", over(true));
  zone.addEventListener("dragleave", over(false));
  zone.addEventListener("drop", (event) => {
    over(false)(event);
    dropped(event.dataTransfer).then((found) => found.length && send(found)).catch((error) => say(error.message, true));
  });
  return zone;
}

// XMLHttpRequest, because fetch does not say how much has been sent.
function upload(file, fields, list) {
  const meter = el("progress", { max: "1", value: "0", "aria-label": `Sent of ${file.name}` });
  const line = el("li", {}, file.name, meter);
  list.append(line);
  const body = new FormData();
  body.append("file", file);
  for (const [key, value] of Object.entries(fields)) if (value) body.append(key, value);
  return new Promise((resolve) => {
    const request = new XMLHttpRequest();
    request.upload.onprogress = (event) => { if (event.lengthComputable) meter.value = event.loaded / event.total; };
    request.onloadend = () => {
      if (request.status === 202) {
        say(`${file.name} was accepted.`);
        line.remove();
      } else {
        let text = request.status ? `refused (${request.status})` : "the connection ended";
        try {
          text = JSON.parse(request.responseText).detail;
        } catch {
          // the status alone is said
        }
        say(`${file.name}: ${text}`, true);
        meter.replaceWith(el("span", { class: "state error" }, text));
      }
      resolve();
    };
    request.open("POST", "v1/jobs");
    request.send(body);
  });
}
