// The queue as it is now, and the place where studies are dropped.

import { Refused, called, counted, el, json, moment, say, state, table } from "./dom.js";
import { dropped, studies } from "./zip.js";

const NAMES = ["Case", "State", "Answer or reason", "Received", "Answered after"];
const [FAST_MS, SLOW_MS] = [1500, 8000];
const [COUNT, MORE, MOST] = [50, 150, 500]; // studies that are listed

export async function queue(main, current) {
  const { plugins } = await json("v1/plugins");
  if (!current()) return;
  const list = el("div", { id: "jobs" });
  main.replaceChildren(
    el("h1", {}, "Studies"),
    el("p", {}, "Each plugin answers one question about a 3D scan, and shows where in the scan it looked."),
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
  const wanted = Number(list.dataset.wanted ?? COUNT);
  const { jobs, counts } = await json(`v1/jobs?count=${Math.min(wanted, MOST)}`);
  const text = JSON.stringify([jobs, counts, wanted]);
  if (list.dataset.text !== text) {
    const focused = list.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
    list.dataset.text = text;
    const more = () => {
      list.dataset.wanted = wanted + MORE;
      refresh(list).catch((error) => say(error.message, true));
    };
    const rows = jobs.map((job) => [
      el("a", { href: `#/jobs/${job.id}` }, called(job)),
      state(job.status),
      answer(job),
      moment(job.received),
      job.finished ? `${(job.finished - job.received).toFixed(1)} s` : "",
    ]);
    list.replaceChildren(
      el("p", { class: "quiet" }, `${counted(counts)}.`),
      rows.length
        ? table("Newest first", NAMES, rows, { numbers: [4], stacks: true })
        : el("p", {}, "Nothing has been sent yet."),
      jobs.length === wanted && wanted < MOST ? el("p", {}, el("button", { type: "button", onclick: more }, "Show older studies")) : "",
    );
    if (focused) list.querySelector(`a[href="${focused}"]`)?.focus();
  }
  return counts.queued + counts.running > 0;
}

function answer(job) {
  if (job.status !== "done") return job.message.slice(0, 200);
  const unlike = job.unlike_training;
  const isUsable = job.asked.length > unlike.length + job.no_answer.length;
  const decided = job.decided.filter((text) => !unlike.some((name) => text.startsWith(`${name}: `)));
  const parts = isUsable ? [decided.length ? decided.join(", ") : "no label is positive"] : [];
  if (!job.asked.length) parts.push(job.message);
  const mark = (kind, text) => parts.push(" ", el("span", { class: `state ${kind}` }, text));
  if (unlike.length) mark("warning", `do not use ${unlike.join(", ")}: unlike the training scans`);
  else if (job.warned) mark("warning", "with warnings");
  if (job.no_answer.length) mark("error", `no answer of ${job.no_answer.join(", ")}`);
  return parts;
}

function dropZone(plugins, sent) {
  const files = el("input", { type: "file", id: "files", multiple: true });
  const name = el("input", { id: "case", maxlength: "64", autocomplete: "off", spellcheck: "false" });
  const series = el("input", { id: "series", maxlength: "500", autocomplete: "off", spellcheck: "false" });
  series.placeholder = "thinnest axial";
  const boxes = plugins.map((plugin) => el("input", { type: "checkbox", value: plugin.name, checked: true }));
  const progress = el("ul", { class: "sending" });
  const send = async (files_) => {
    const names = boxes.filter((box) => box.checked).map((box) => box.value);
    if (!names.length) return say("Choose at least one plugin.", true);
    const chosen = await studies(files_);
    for (const file of chosen) {
      const what = files_.includes(file) ? file.name : `${files_.length - chosen.length + 1} files as one study`;
      const fields = { case: chosen.length === 1 ? name.value.trim() : "", series: series.value.trim() };
      fields.plugins = names.length === boxes.length ? "" : names.join(",");
      await upload(file, what, fields, progress);
    }
    files.value = name.value = "";
    await sent();
  };
  const submit = (event) => {
    event.preventDefault();
    if (files.files.length) send([...files.files]).catch((error) => say(error.message, true));
    else say("Choose a file first, or drop one here.", true);
  };
  const asked = (plugin) => `${plugin.name}: ${plugin.labels.slice(0, 5).join(", ")}${plugin.labels.length > 5 ? ", …" : ""} (${plugin.modality})`;
  const chooser = el("fieldset", {}, el("legend", {}, "Plugins, and what each answers"),
    boxes.map((box, i) => el("label", {}, box, asked(plugins[i]))));
  const zone = el("form", { class: "drop", onsubmit: submit, "aria-labelledby": "drop-title" },
    el("h2", { id: "drop-title" }, "Send a study"),
    el("p", {}, "Drop files or a folder here, or choose them: .nii.gz or .nii, a .zip of one DICOM study, or its files, " +
      "which are sent together as one study. Of a DICOM study with several series, say which: thinnest axial, for instance, " +
      "or SeriesDescription~=/t1/i."),
    boxes.length === 1 ? el("p", {}, `Answered by ${asked(plugins[0])}.`) : "",
    el("div", { class: "fields" },
      el("div", { class: "field" }, el("label", { for: "files" }, "Files"), files),
      el("div", { class: "field" }, el("label", { for: "case" }, "Case (your own word, no patient identifier)"), name),
      el("div", { class: "field" }, el("label", { for: "series" }, "DICOM series, if there are several"), series),
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
function upload(file, what, fields, list) {
  const meter = el("progress", { max: "1", value: "0", "aria-label": `Sent of ${what}` });
  const line = el("li", {}, what, meter);
  list.append(line);
  const body = new FormData();
  body.append("file", file);
  for (const [key, value] of Object.entries(fields)) if (value) body.append(key, value);
  return new Promise((resolve) => {
    const request = new XMLHttpRequest();
    request.upload.onprogress = (event) => { if (event.lengthComputable) meter.value = event.loaded / event.total; };
    request.onloadend = () => {
      if (request.status === 202) {
        say(`Accepted: ${what}.`);
        line.remove();
      } else {
        let text = request.status ? `refused (${request.status})` : "the connection ended";
        try {
          text = JSON.parse(request.responseText).detail;
        } catch {
          // the status alone is said
        }
        say(`${what}: ${text}`, true);
        meter.replaceWith(el("span", { class: "state error" }, text));
      }
      resolve();
    };
    request.open("POST", "v1/jobs");
    request.send(body);
  });
}
