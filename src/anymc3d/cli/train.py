"""``anymc3d train task.yaml -o RUN [key=value …]``."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("task", type=Path, metavar="task.yaml", help="the task file (see 'anymc3d plan')")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="for example train.epochs=3 backbone=FOLDER")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="RUN", help="the run folder; made if need be")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def run(args: argparse.Namespace) -> int:
    """Train, or resume, or find the run finished."""
    from anymc3d.cli.main import print_json
    from anymc3d.plugins import load_plugin
    from anymc3d.task_file import read_task
    from anymc3d.train.fit import fit

    plugin_path = fit(read_task(args.task, args.overrides), args.out, device=args.device, quiet=args.quiet)
    plugin = load_plugin(plugin_path)
    headline = [row for row in plugin.card.metrics if row["metric"] == "auroc" and row["group"] == "all"]
    if args.json:
        print_json({"plugin": str(plugin_path), "hash": plugin.hash, "validation": headline})
        return 0
    print(f"plugin: {plugin_path}")
    for row in headline:
        value = row["value"] or f"undefined ({row['reason']})"
        interval = f" (95 % interval {row['ci_low']} to {row['ci_high']})" if row["ci_low"] else ""
        print(f"validation AUROC {row['label']}: {value}{interval}, n = {row['n']}")
    print("The epoch and the operating point were chosen on these cases: take figures to report from a test split.")
    return 0
