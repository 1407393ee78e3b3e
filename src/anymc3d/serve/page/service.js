// What is resident, and the answers of the last weeks against the training data.

import { counted, el, json, state, table } from "./dom.js";

const percent = (share) => (share === null ? "" : `${(100 * share).toFixed(1)} %`);

export async function service(main, current) {
  const [{ plugins }, drift, { counts }, ready] = await Promise.all([
    json("v1/plugins"), json("v1/drift"), json("v1/jobs?count=1"), fetch("readyz")]);
  const why = ready.ok ? "" : await ready.text();
  if (!current()) return;
  document.title = "Service: anymc3d";
  const rows = plugins.map((plugin) => [
    plugin.name, plugin.labels.join(", "), plugin.modality, plugin.calibrated ? "yes" : "no", plugin.hash.slice(0, 16),
  ]);
  const names = ["Plugin", "Labels", "Modality", "Probabilities calibrated", "Hash"];
  main.replaceChildren(
    el("h1", {}, "Service"),
    why ? el("p", { class: "verdict warning" }, `Studies wait: ${why}.`) : "",
    el("p", {}, `Studies: ${counted(counts)}.`),
    el("h2", {}, "Plugins"), table("Resident plugins", names, rows, { stacks: true }),
    ...plugins.flatMap((plugin) => plugin.doubts.map((doubt) =>
      el("p", { class: "verdict warning" }, `Plugin ${plugin.name}: ${doubt}`))),
    el("h2", {}, "Drift: are the studies still like those of training?"),
    el("p", {}, `The answers of the last ${drift.window_days} days beside what each plugin's file records of its training. ` +
      "An alarm is a difference that chance alone gives less than once in a thousand looks, from 20 answers on. " +
      "It does not say whether the answers are right. ood_score: how far a scan is from the training scans, above 1 too far."),
    ...drift.plugins.flatMap(section),
  );
}

function section(one) {
  const compared = one.comparisons.map((row) => [
    `${row.measure}: ${row.name}`, `${percent(row.share)} (${row.count} of ${row.of})`,
    `${percent(row.reference_share)} (${row.reference_count} of ${row.reference_of})`,
    row.is_alarm ? el("span", { class: "state error" }, "alarm") : row.of < 20 ? "too few answers" : state("none"),
  ]);
  const weeks = one.weeks.map((week) => [
    new Date(week.from * 1000).toLocaleDateString(), String(week.answers), String(week.warnings), String(week.errors),
    listed(week.mean_probability, 3), listed(week.median_intensity, 1),
    week.median_ood_score === null ? "" : week.median_ood_score.toFixed(2),
  ]);
  const columns = ["Share of studies with", "Here", "In training", "Alarm"];
  const heads = ["Week from", "Answers", "Warnings", "Errors", "Mean probability", "Median intensity", "Median ood_score"];
  return [
    el("h3", {}, one.plugin),
    el("p", {}, `Answers: ${one.answers}; with warnings: ${one.warnings}; errors: ${one.errors}.`),
    compared.length ? table(`${one.plugin} against its training data`, columns, compared, { stacks: true })
      : el("p", {}, "The plugin's file records nothing to compare with."),
    table(`${one.plugin} by week`, heads, weeks, { numbers: [1, 2, 3, 6], stacks: true }),
  ];
}

const listed = (values, digits) =>
  Object.entries(values).map(([name, value], _, all) => `${all.length > 1 ? `${name} ` : ""}${value.toFixed(digits)}`).join(", ");
