"""``anymc3d vlm3d recipe|train|predict|evaluate|container|miniature``: the VLM3D challenge, end to end."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from anymc3d.cli.options.compute import add_arithmetic, add_backbone, add_device
from anymc3d.cli.say import answer_text, say, warn
from anymc3d.errors import UsageError

if TYPE_CHECKING:
    from anymc3d.train.members import MemberRuns

RESEARCH = "Research use only. Not a medical device."


class _Action(NamedTuple):
    """One word after ``vlm3d``: what it is for, its own arguments, and what it does."""

    summary: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="|".join(ACTIONS))
    for name, action in ACTIONS.items():
        subparser = actions.add_parser(name, help=action.summary)
        action.add_arguments(subparser)
        subparser.add_argument("--json", action="store_true", help="print the result as JSON")
        subparser.add_argument("--quiet", action="store_true", help="print warnings only")


def _add_recipe(action: argparse.ArgumentParser) -> None:
    action.add_argument("-o", "--out", type=Path, metavar="TASK.yaml", help="write it to this new file instead")


def _add_train(action: argparse.ArgumentParser) -> None:
    action.add_argument("manifest", type=Path, metavar="MANIFEST.csv", help="with the 18 label columns")
    action.add_argument("overrides", nargs="*", metavar="key=value", help="for example backbone=FOLDER train.epochs=20")
    action.add_argument(
        "-o", "--out", type=Path, required=True, metavar="RUN", help="RUN/plugin.safetensors is the result"
    )
    action.add_argument("--members", type=int, default=10, metavar="N", help="plugins in the ensemble (default: 10)")
    action.add_argument("--recipe", type=Path, metavar="TASK.yaml", help="your copy of the recipe")
    add_device(action)


def _add_predict(action: argparse.ArgumentParser) -> None:
    action.add_argument("-p", "--plugin", type=Path, required=True, metavar="ENSEMBLE", help="a plugin or an ensemble")
    action.add_argument("-i", "--input", type=Path, default=Path("/input"), metavar="FOLDER", help="(default: /input)")
    action.add_argument(
        "-o",
        "--out",
        type=Path,
        default=Path("/output/results.json"),
        metavar="FILE",
        help="(default: /output/results.json)",
    )
    add_backbone(action)
    add_device(action)
    add_arithmetic(action, chunk_size=16)
    action.add_argument(
        "--work", type=Path, metavar="FOLDER", help="keep finished exams here; default: beside FILE, until done"
    )
    action.add_argument("--allow-failed", action="store_true", help="exit with 0 although some exams failed, not all")


def _add_evaluate(action: argparse.ArgumentParser) -> None:
    action.add_argument("results", type=Path, metavar="RESULTS.json", help="as written, or wrapped by the platform")
    action.add_argument("truth", type=Path, metavar="GROUND_TRUTH.csv", help="AccessionNo and the 18 labels")
    action.add_argument("-o", "--out", type=Path, required=True, metavar="METRICS.json")


def _add_container(action: argparse.ArgumentParser) -> None:
    action.add_argument("-o", "--out", type=Path, required=True, metavar="FOLDER")
    action.add_argument("-p", "--plugin", type=Path, required=True, metavar="ENSEMBLE")
    add_backbone(action)


def _add_miniature(action: argparse.ArgumentParser) -> None:
    action.add_argument("-o", "--out", type=Path, required=True, metavar="FOLDER")
    action.add_argument("--patients", type=int, default=60, metavar="N", help="of its training part (default: 60)")
    action.add_argument("--seed", type=int, default=0)


def run(args: argparse.Namespace) -> int:
    """Run the chosen action."""
    return ACTIONS[args.action].run(args)


def _recipe(args: argparse.Namespace) -> int:
    from anymc3d.cli.main import print_json
    from anymc3d.files import atomic
    from anymc3d.vlm3d.recipe import recipe_text

    if args.out is not None:
        if args.out.exists() and args.out.read_text(encoding="utf-8") != recipe_text():
            raise UsageError(f"--out: {args.out} exists and may hold your changes; choose another name")
        atomic.write_text(args.out, recipe_text())
    elif args.json:
        print_json({"recipe": recipe_text()})
    else:
        answer_text(recipe_text())
    return 0


def _train(args: argparse.Namespace) -> int:
    from anymc3d.train.members import fit_members
    from anymc3d.train.processes import is_first, leave
    from anymc3d.vlm3d.recipe import read_recipe

    task = read_recipe(args.manifest, args.overrides, recipe=args.recipe)
    try:
        runs = fit_members(task, args.out, members=args.members, device=args.device, quiet=args.quiet)
    finally:
        leave()
    if is_first():
        _report_train(runs, args)
    return 0


def _report_train(runs: MemberRuns, args: argparse.Namespace) -> None:
    from anymc3d.cli.cells import metric_record
    from anymc3d.cli.main import print_json
    from anymc3d.files.tables import read_table

    _warn(runs.warnings)
    rows = [row for row in read_table(runs.metrics) if row["metric"] == "auroc" and row["label"] == "macro"]
    if args.json:
        print_json(
            {
                "plugin": str(runs.ensemble),
                "members": [str(path) for path in runs.plugins],
                "calibration": str(runs.calibration) if runs.calibration else None,
                "out_of_fold": [metric_record(row) for row in rows],
                "warnings": list(runs.warnings),
            }
        )
    elif not args.quiet:
        say(f"ensemble of {len(runs.plugins)}: {runs.ensemble}")
        if runs.calibration is not None:
            say(f"what was calibrated on what: {runs.calibration}")
        for row in rows:
            say(f"members out of fold, mean AUROC of the labels: {_with_interval(row)}")
        say("The epochs were chosen on these cases: take results to report from a test split.")
        say(RESEARCH)


def _with_interval(row: Mapping[str, str]) -> str:
    if not row["value"]:
        return f"undefined ({row['reason']})"
    interval = f" ({float(row['ci_low']):.3f} to {float(row['ci_high']):.3f})" if row["ci_low"] else ""
    return f"{float(row['value']):.3f}{interval}"


def _predict(args: argparse.Namespace) -> int:
    if args.chunk_size < 1:
        raise UsageError(f"--chunk-size: expected 1 or more, got {args.chunk_size}")
    from anymc3d.cli.main import print_json
    from anymc3d.plugins import load_plugin
    from anymc3d.predict.predictor import Predictor
    from anymc3d.vlm3d.labels import check_labels
    from anymc3d.vlm3d.submission import find_exams, predict_folder

    out = args.out / "results.json" if args.out.is_dir() else args.out
    find_exams(args.input)
    plugin = load_plugin(args.plugin)
    check_labels(plugin.card.labels.output_names, f"plugin {plugin.card.name!r}")
    if not plugin.card.holds_calibration:
        _warn(
            [f"plugin {plugin.card.name!r} is not calibrated: the challenge decides at 0.5, which then means nothing"]
        )
    predictor = Predictor(
        [plugin], backbone=args.backbone, device=args.device, precision=args.precision, chunk_size=args.chunk_size
    )
    results = predict_folder(predictor, args.input, out, work=args.work, precision=args.precision, quiet=args.quiet)
    failed = results.counts["error"]
    if failed:
        _warn([f"{failed} exams failed and have probability 0.0 for every label: see {results.warnings}"])
    if args.json:
        print_json({"results": str(results.results), "counts": dict(results.counts), "exams": list(results.exams)})
    elif not args.quiet:
        counts = results.counts
        say(f"{results.results}: {counts['ok']} ok, {counts['warn']} with warnings, {failed} failed")
        say(RESEARCH)
    return 0 if args.allow_failed and results.exit_code == 3 else results.exit_code


def _evaluate(args: argparse.Namespace) -> int:
    from anymc3d.cli.main import print_json
    from anymc3d.files import atomic
    from anymc3d.vlm3d.results import read_results
    from anymc3d.vlm3d.scores import align, challenge_metrics, read_truth

    truth, results = read_truth(args.truth), read_results(args.results)
    probabilities, warnings = align(truth, results.probabilities)
    metrics = challenge_metrics(truth.targets, probabilities)
    atomic.write_json(args.out, metrics)
    _warn([*results.warnings, *warnings])
    if args.json:
        print_json(metrics)
    elif not args.quiet:
        macro = metrics["classification"]["macro"]
        auroc = "undefined" if macro["auroc"] is None else f"{macro['auroc']:.4f}"
        say(f"{args.out}: {len(truth.exams)} exams, decided at probability >= 0.5, as the challenge does")
        say(f"macro AUROC {auroc}, macro F1 {macro['f1']:.4f}, CRG {metrics['crg']['CRG']:.4f}")
        say(RESEARCH)
    return 0


def _container(args: argparse.Namespace) -> int:
    from anymc3d.cli.main import print_json
    from anymc3d.vlm3d.container import contents, write_container

    warnings = write_container(args.out, args.plugin, backbone=args.backbone)
    _warn(warnings)
    if args.json:
        print_json({"folder": str(args.out), "contents": contents(args.out), "warnings": warnings})
    elif not args.quiet:
        say(f"{args.out}: build.sh builds the image, test.sh runs it under the challenge's limits, save.sh packs it")
        say(RESEARCH)
    return 0


def _miniature(args: argparse.Namespace) -> int:
    from anymc3d.cli.main import print_json
    from anymc3d.vlm3d.miniature import write_miniature

    manifest = write_miniature(args.out, patients=args.patients, seed=args.seed)
    if args.json:
        print_json({"manifest": str(manifest)})
    elif not args.quiet:
        say(f"{manifest}: made from numbers; nothing about it is medical evidence")
    return 0


def _warn(warnings: Iterable[str]) -> None:
    for warning in warnings:
        warn(warning)


ACTIONS: dict[str, _Action] = {
    "recipe": _Action("print the recipe, a task file to look at or to change", _add_recipe, _recipe),
    "train": _Action("train the members, calibrate them, join them; again = resume", _add_train, _train),
    "predict": _Action("every .mha of a folder -> results.json of the challenge", _add_predict, _predict),
    "evaluate": _Action("the challenge's metrics.json from its formulas", _add_evaluate, _evaluate),
    "container": _Action("a folder from which docker builds the submission", _add_container, _container),
    "miniature": _Action("write a tiny set in the layout of CT-RATE, to try all this", _add_miniature, _miniature),
}
