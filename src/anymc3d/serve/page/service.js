// What is resident, and how the service is doing.

import { el, json, table } from "./dom.js";

export async function service(main, current) {
  const { plugins } = await json("v1/plugins");
  if (!current()) return;
  document.title = "Service: anymc3d";
  const rows = plugins.map((plugin) => [
    plugin.name, plugin.labels.join(", "), plugin.modality, plugin.calibrated ? "yes" : "no", plugin.hash.slice(0, 16),
  ]);
  const names = ["Plugin", "Labels", "Modality", "Calibrated", "Hash"];
  main.replaceChildren(
    el("h1", {}, "Service"),
    el("h2", {}, "Plugins"), table("Resident plugins", names, rows, { stacks: true }),
  );
}
