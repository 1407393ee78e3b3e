"""``anymc3d calibrate -p PLUGIN PREDICTIONS.csv MANIFEST.csv -o NEW.safetensors | --figure OUT.png``."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from anymc3d.cli.options.pseudonyms import add_pseudonymize, chosen_pseudonyms
from anymc3d.cli.say import say, warn
from anymc3d.errors import UsageError

if TYPE_CHECKING:
    from anymc3d.evaluate.strategies import Score
    from anymc3d.plugins import Plugin
    from anymc3d.plugins.recalibrate import Recalibration, ScoredCases


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("-p", "--plugin", type=Path, required=True, metavar="PLUGIN", help="a plugin or an ensemble")
    parser.add_argument("predictions", type=Path, metavar="PREDICTIONS.csv", help="this plugin's, by 'anymc3d predict'")
    parser.add_argument("manifest", type=Path, metavar="MANIFEST.csv", help="with the labels; no scan is opened")
    parser.add_argument("-o", "--out", type=Path, metavar="NEW", help="the recalibrated plugin; weights unchanged")
    parser.add_argument(
        "--method",
        help="platt (the operating point becomes probability 0.5), temperature or isotonic "
        "(default: platt, multi-class temperature)",
    )
    parser.add_argument(
        "--criterion",
        help="what the operating point is chosen for: f1, crg, f1_crg, youden, or none, which keeps an uncalibrated "
        "probability of 0.5 (default: the plugin's own)",
    )
    parser.add_argument(
        "--split", choices=("train", "val", "test"), help="fit on these rows (default: val, or all without splits)"
    )
    parser.add_argument(
        "--pooled",
        type=Path,
        metavar="OOF.csv",
        help="out-of-fold predictions of sister plugins (RUN/oof.csv of 'train --folds'), for labels with fewer than "
        "10 cases of either outcome",
    )
    parser.add_argument(
        "--coverage",
        type=float,
        metavar="SHARE",
        help="add conformal prediction sets that hold the true answer in at least this share of cases, such as 0.9; "
        "alone it leaves the calibration as it is",
    )
    parser.add_argument(
        "--figure",
        type=Path,
        metavar="OUT.png|.csv",
        help="compare no calibration with F1, CRG and F1+CRG, fitted on val and scored on test rows",
    )
    add_pseudonymize(parser, "the predictions were made with this option and key")
    parser.add_argument("--overwrite", action="store_true", help="replace another plugin at OUT")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--quiet", action="store_true", help="print warnings only")


def run(args: argparse.Namespace) -> int:
    """Calibrate, or compare the strategies, or both."""
    if args.out is None and args.figure is None:
        raise UsageError("expected -o NEW.safetensors, or --figure OUT.png, or both")
    for option in ("pooled", "method", "criterion", "split", "coverage"):
        if getattr(args, option) is not None and args.out is None:
            raise UsageError(
                f"--{option}: only with -o; the figure compares set strategies, fitted on the val rows alone"
            )
    if args.coverage is not None and args.pooled is not None and not _recalibrates(args):
        raise UsageError("--pooled: sets are fitted to the plugin's own logits; give --method or --criterion with it")
    _check_figure(args)
    from anymc3d.cli.main import print_json
    from anymc3d.plugins import load_plugin
    from anymc3d.plugins.recalibrate import read_scored

    plugin = load_plugin(args.plugin)
    if plugin.card.labels.is_number:
        raise UsageError(
            f"{plugin.card.name} answers a number, which has no probability and no operating point to calibrate; "
            "'anymc3d evaluate' gives its calibration slope"
        )
    cases = read_scored(plugin, args.predictions, args.manifest, chosen_pseudonyms(args, []))
    printed: dict[str, object] = {}
    if args.out is not None:
        printed |= _calibrate(args, plugin, cases)
    if args.figure is not None:
        printed["strategies"] = [score.row() for score in _compare(args, plugin, cases)]
    if args.json:
        print_json(printed)
    elif not args.quiet:
        say("Research use only. Not a medical device.")
    return 0


def _recalibrates(args: argparse.Namespace) -> bool:
    """Prediction sets alone leave the calibration as it is."""
    return args.coverage is None or args.method is not None or args.criterion is not None


def _check_figure(args: argparse.Namespace) -> None:
    """The figure's numbers go to a table of its name, which must not be one of the tables that are read."""
    if args.figure is None:
        return
    if args.figure.suffix not in (".png", ".csv"):
        raise UsageError(f"--figure: expected a name that ends in .png or .csv, got {args.figure}")
    table = args.figure.with_suffix(".csv")
    read = [path for path in (args.predictions, args.manifest, args.pooled) if path is not None]
    if any(table.exists() and path.exists() and table.samefile(path) for path in read):
        raise UsageError(f"--figure: its table would be written over {table}, one of the inputs; choose another name")


def _calibrate(args: argparse.Namespace, plugin: Plugin, cases: ScoredCases) -> dict[str, object]:
    from anymc3d.cli.doubts import warn_of_doubts
    from anymc3d.cli.new_plugin import write_new
    from anymc3d.plugins.recalibrate import choose_cases, read_pooled, recalibrate, with_sets

    chosen, split, warnings = choose_cases(cases, args.split)
    pooled = None if args.pooled is None else read_pooled(plugin.card.labels, args.pooled, args.manifest)
    new = None
    if _recalibrates(args):
        new = recalibrate(plugin, chosen, split=split, method=args.method, criterion=args.criterion, pooled=pooled)
    if args.coverage is not None:
        warnings += [] if new is None else new.warnings
        before = plugin if new is None else replace(plugin, card=new.card)
        new = with_sets(before, chosen, split=split, coverage=args.coverage)
    assert new is not None, "one of the two was asked for"
    digest = write_new(args.out, new.card, plugin.tensors, overwrite=args.overwrite, inputs=[args.plugin])
    for warning in [*warnings, *new.warnings]:
        warn(warning)
    warn_of_doubts([new.card])
    if not (args.json or args.quiet):
        say(*_lines(args.out, new) if _recalibrates(args) else [])
        say(*_lines_of_sets(args.out, new))
    return {
        "plugin": str(args.out),
        "hash": digest,
        "split": split,
        "cases": new.cases,
        "positives": {name: {"positive": p, "cases": n} for name, (p, n) in new.positives.items()},
        "pooled": list(new.pooled),
        "coverage": args.coverage,
        "warnings": [*warnings, *new.warnings],
    }


def _lines(out: Path, new: Recalibration) -> list[str]:
    fitted = new.card.calibration
    assert fitted is not None, "recalibrate always fits one"
    through = f" through the operating point of {fitted.criterion}" if fitted.method == "platt" else ""
    from anymc3d.settings.decision_text import what_is_positive

    which = "all rows" if new.split == "all" else f"the {new.split} rows"
    lines = [f"{out}: {fitted.method}{through}, fitted on {new.cases} cases ({which}); the weights are unchanged"]
    lines.append(what_is_positive(new.card.labels))
    for (name, (positive, total)), threshold in zip(new.positives.items(), new.card.thresholds, strict=True):
        point = f", positive from raw logit {threshold:.4g}" if not new.card.labels.one_of_classes else ""
        lines.append(f"  {name}: {positive} of {total} positive{point}")
    return lines


def _lines_of_sets(out: Path, new: Recalibration) -> list[str]:
    sets = new.card.prediction_sets
    if sets is None:
        return []
    which = "all rows" if sets.split == "all" else f"the {sets.split} rows"
    lines = [f"{out}: prediction sets of coverage {sets.coverage:g}, fitted on {sets.cases} cases ({which})"]
    for name, bounds in sets.labels.items():
        parts = [f"1 from raw logit {_bound(bounds.positive_from)} (patients: {bounds.n_positive})"]
        if not new.card.labels.one_of_classes:
            parts.append(f"0 up to {_bound(bounds.negative_to)} (patients: {bounds.n_negative})")
        lines.append(f"  {name}: " + ", ".join(parts))
    return lines


def _bound(value: float | None) -> str:
    return "any" if value is None else f"{value:.4g}"


def _compare(args: argparse.Namespace, plugin: Plugin, cases: ScoredCases) -> list[Score]:
    from anymc3d.evaluate.strategies import COLUMNS, HOW, compare_strategies
    from anymc3d.evaluate.strategy_picture import draw_strategies
    from anymc3d.files.tables import write_table

    fitting, scoring = cases.of_split("val"), cases.of_split("test")
    for name, part in (("val", fitting), ("test", scoring)):
        if not part.splits:
            raise UsageError(f"--figure: expected predicted and labelled val and test rows, got no {name} row")
    scores = compare_strategies(
        plugin.card.labels, (fitting.targets, fitting.raw), (scoring.targets, scoring.raw), scoring.patients
    )
    write_table(args.figure.with_suffix(".csv"), COLUMNS, [score.row() for score in scores])
    if args.figure.suffix == ".png":
        counts = f"fitted on {len(fitting.splits)} validation, scored on {len(scoring.splits)} test cases"
        draw_strategies(args.figure, scores, title=f"{plugin.card.name}: {counts}")
    if not (args.json or args.quiet):
        say(f"{args.figure}: {HOW}")
        say(*_table(scores))
    return scores


def _table(scores: list[Score]) -> list[str]:
    from anymc3d.evaluate.strategies import METRICS

    lines = [f"{'':8}" + "".join(f"{metric:>22}" for metric in METRICS)]
    for name in dict.fromkeys(score.strategy for score in scores):
        of_strategy = [score for score in scores if score.strategy == name]
        lines.append(f"{name:8}" + "".join(f"{_cell(score):>22}" for score in of_strategy))
    return lines


def _cell(score: Score) -> str:
    if score.value is None:
        return "undefined"
    low, high = score.interval.low, score.interval.high
    return f"{score.value:.3f}" + ("" if low is None or high is None else f" ({low:.3f}-{high:.3f})")
