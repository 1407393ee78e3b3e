"""``anymc3d train task.yaml -o RUN [key=value …]``."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anymc3d.cli.doubts import warn_of_doubts
from anymc3d.cli.options.compute import add_device
from anymc3d.cli.options.inputs import add_segmenter, add_workers, checked_workers
from anymc3d.cli.options.launch import add_launch, is_launcher, launch
from anymc3d.cli.options.pseudonyms import add_pseudonymize, chosen_pseudonyms
from anymc3d.cli.parser import Parser
from anymc3d.cli.say import say, warn
from anymc3d.cli.setting_hints import setting_hint

if TYPE_CHECKING:
    from anymc3d.settings.config import TaskSettings
    from anymc3d.train.folds import FoldRuns


HEADLINE = {"auroc": "AUROC", "mae": "MAE", "r2": "R²"}
"""Metrics that are printed, by their name in ``metrics.csv``."""


def add_arguments(parser: Parser) -> None:
    """Add this command's arguments."""
    parser.hint = setting_hint
    parser.add_argument("task", type=Path, metavar="task.yaml", help="the task file (see 'anymc3d plan')")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="for example train.epochs=3 backbone=FOLDER")
    parser.add_argument(
        "-o", "--out", type=Path, required=True, metavar="RUN", help="the run folder; created if needed"
    )
    parser.add_argument("--backbone", metavar="NAME", help="the same as backbone=NAME: a name, folder or file")
    add_device(parser)
    parser.add_argument(
        "--folds", type=int, metavar="N", help="train N folds; RUN/oof.csv has every case predicted once"
    )
    parser.add_argument("--repeats", type=int, default=1, metavar="N", help="with --folds: repeat on other folds")
    add_pseudonymize(parser, "the run folder holds keyed pseudonyms in place of ids, paths and metadata")
    parser.add_argument(
        "--quick", action="store_true", help="first answer in minutes: frozen features, cross-validated, with a verdict"
    )
    parser.add_argument(
        "--embeddings",
        type=Path,
        metavar="DIR",
        help="with --quick: learn from what anymc3d embed wrote; reads no scan",
    )
    parser.add_argument("--slices", metavar="N|all", help="with --quick: at most N slices per view (default: by work)")
    add_segmenter(
        parser, "the network that draws a region, or the TotalSegmentator program: it runs only if you name it here"
    )
    parser.add_argument(
        "--log",
        action="append",
        default=[],
        choices=("tensorboard", "mlflow", "wandb"),
        help="also hand the numbers of every epoch to this program (extras of the same names)",
    )
    add_launch(parser)
    add_workers(parser)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--quiet", action="store_true", help="print warnings only")


def run(args: argparse.Namespace) -> int:
    """Train, or resume, or find the run finished."""
    from anymc3d.data.prefetch.queue import asking_for
    from anymc3d.errors import UsageError
    from anymc3d.settings.decision_text import what_is_positive
    from anymc3d.settings.task_file import programs_named, read_task
    from anymc3d.train.processes import is_first, leave

    if args.folds is None and args.repeats != 1:
        raise UsageError("--repeats: only with --folds; for another run of one split use train.seed=1")
    if args.folds is not None and args.pseudonymize is not None:
        raise UsageError("--pseudonymize: not with --folds, whose manifests keep the paths; train one split at a time")
    if args.quick and args.folds is not None:
        raise UsageError(
            "--quick: has folds of its own (five, or those of the manifest's fold column); leave out --folds"
        )
    if args.slices is not None and not args.quick:
        raise UsageError("--slices: only with --quick; otherwise set views.<view>.size")
    if args.log and args.quick:
        raise UsageError("--log: --quick has no epochs; leave it out")
    options_given = [name for name in ("slices", "pseudonymize", "segmenter") if getattr(args, name)]
    if args.embeddings is not None and (options_given or not args.quick):
        what = f"not with --{options_given[0]}" if options_given else "only with --quick"
        raise UsageError(f"--embeddings: {what}; what it holds is learnt from as it is")
    slices = _slices(args.slices)
    if is_launcher(args):
        return launch(args)
    task = read_task(args.task, [*args.overrides, *([] if args.backbone is None else [f"backbone={args.backbone}"])])
    args.segmenter += programs_named(args.overrides)
    try:
        with asking_for(checked_workers(args)):
            report = _trained(task, slices, args)
    finally:
        leave()
    if is_first() and (args.json or not args.quiet):
        report()
        if not args.json:
            say(what_is_positive(task.labels))
    return 0


def _trained(task: TaskSettings, slices: int | None, args: argparse.Namespace) -> Callable[[], None]:
    if args.quick:
        return _train_quick(task, slices, args)
    return _train_once(task, args) if args.folds is None else _train_folds(task, args)


def _train_folds(task: TaskSettings, args: argparse.Namespace) -> Callable[[], None]:
    from anymc3d.train.folds import fit_folds

    runs = fit_folds(
        task,
        args.out,
        folds=args.folds,
        repeats=args.repeats,
        device=args.device,
        segmenters=args.segmenter,
        quiet=args.quiet,
        callbacks=args.log,
    )
    return lambda: _report_folds(runs, args)


def _report_folds(runs: FoldRuns, args: argparse.Namespace) -> None:
    from anymc3d.cli.cells import metric_record
    from anymc3d.cli.main import print_json
    from anymc3d.files.tables import read_table

    rows = [row for row in read_table(runs.metrics) if row["metric"] in HEADLINE and row["group"] == "all"]
    for warning in runs.warnings:
        warn(warning)
    if args.json:
        paths = {"plugins": [str(path) for path in runs.plugins], "pooled": [str(path) for path in runs.pooled]}
        print_json({**paths, "out_of_fold": [metric_record(row) for row in rows], "warnings": list(runs.warnings)})
        return
    say(f"plugins: {len(runs.plugins)} under {args.out}")
    say(f"out-of-fold predictions: {runs.predictions}")
    if runs.pooled:
        say(f"for an ensemble, rare labels calibrated on all held-out cases: {runs.pooled[0].parent}")
    for row in rows:
        which = f"{row['plugin']} {row['label']}" if args.repeats > 1 else row["label"]
        say(f"out-of-fold {HEADLINE[row['metric']]} {which}: {_with_interval(row)}, n = {row['n']}")


def _train_once(task: TaskSettings, args: argparse.Namespace) -> Callable[[], None]:
    from anymc3d.train.fit import fit

    pseudonyms = chosen_pseudonyms(args, [args.out])
    options = {"device": args.device, "pseudonyms": pseudonyms, "segmenters": args.segmenter, "quiet": args.quiet}
    plugin_path = fit(task, args.out, callbacks=args.log, **options)
    report = plugin_path.parent / "quick.json"
    if report.exists():
        # A method that is fitted at once has no epochs to speak of, and out-of-fold results.
        return lambda: _report_quick(report, args)
    return lambda: _report_plugin(plugin_path, args)


def _report_plugin(plugin_path: Path, args: argparse.Namespace) -> None:
    from anymc3d.cli.main import print_json
    from anymc3d.plugins import load_plugin

    plugin = load_plugin(plugin_path)
    headline = [row for row in plugin.card.metrics if row["metric"] in HEADLINE and row["group"] == "all"]
    warn_of_doubts([plugin.card])
    if args.json:
        print_json({"plugin": str(plugin_path), "hash": plugin.hash, "validation": headline})
        return
    say(f"plugin: {plugin_path}")
    for row in headline:
        say(f"validation {HEADLINE[row['metric']]} {row['label']}: {_with_interval(row)}, n = {row['n']}")
    chosen = "The epoch was" if plugin.card.labels.is_number else "The epoch and the operating point were"
    say(f"{chosen} chosen on these cases: take results to report from a test split.")


def _train_quick(task: TaskSettings, slices: int | None, args: argparse.Namespace) -> Callable[[], None]:
    from anymc3d.train.quick.run import fit_quick
    from anymc3d.train.quick.settings import QuickSettings

    report = fit_quick(
        task,
        args.out,
        settings=QuickSettings(slices=slices),
        device=args.device,
        segmenters=args.segmenter,
        quiet=args.quiet,
        pseudonyms=chosen_pseudonyms(args, [args.out]),
        embeddings=args.embeddings,
    )
    return lambda: _report_quick(report, args)


def _report_quick(report: Path, args: argparse.Namespace) -> None:
    import json

    from anymc3d.cli.main import print_json
    from anymc3d.train.quick.summary import lines

    results = json.loads(report.read_text(encoding="utf-8"))
    if args.json:
        print_json(results)
        return
    say(*lines(results))
    method = "" if results["backbone"] is None else " (method: frozen)"
    say(f"plugin: {report.parent / 'plugin.safetensors'}{method}; picture: {report.parent / 'quick.png'}")


def _slices(text: str | None) -> int | None:
    from anymc3d.errors import UsageError
    from anymc3d.train.quick.slices import ALL

    if text is None or text == "all":
        return None if text is None else ALL
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"--slices: expected a number of 1 or more, or all; got {text!r}")
    return int(text)


def _with_interval(row: Mapping[str, Any]) -> str:
    """The value of a metric; from a table its cells are text, from a plugin's card numbers."""
    if row["value"] in (None, ""):
        return f"undefined ({row['reason']})"
    value, low, high = (
        float(row[name]) if row[name] not in (None, "") else None for name in ("value", "ci_low", "ci_high")
    )
    return f"{value:.3f}" if low is None else f"{value:.3f} (95 % interval {low:.3f} to {high:.3f})"
