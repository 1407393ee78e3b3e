"""``anymc3d evaluate PREDICTIONS.csv MANIFEST.csv -o OUT``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from anymc3d.cli.options.pseudonyms import add_pseudonymize, chosen_pseudonyms
from anymc3d.cli.say import say, say_text, warn
from anymc3d.errors import UsageError

if TYPE_CHECKING:
    from anymc3d.evaluate.study import Study
    from anymc3d.evaluate.study_cases import StudySettings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("predictions", type=Path, metavar="PREDICTIONS.csv", help="as 'anymc3d predict' writes it")
    parser.add_argument("manifest", type=Path, metavar="MANIFEST.csv", help="with the labels; no scan is opened")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="OUT", help="the output folder")
    parser.add_argument("--groups", metavar="COL[,COL…]", help="also results per value of these manifest columns")
    parser.add_argument(
        "--operating-points",
        metavar="P[,P…]",
        help="chosen on the val rows: youden, f1, crg, f1_crg, sensitivity=0.95, specificity=0.9; or probability=0.5; "
        "youden@test is chosen on the test rows, and marked so (default: youden where val rows are predicted)",
    )
    parser.add_argument(
        "--severity",
        metavar="[LABEL=]COL[,…]",
        help="also a table by the grades of this column: 0 against 1, 0 against 2, 0 against all others",
    )
    parser.add_argument(
        "--task",
        type=Path,
        action="append",
        default=[],
        metavar="task.yaml",
        help="what the label cells mean, where they are not 0 and 1; can be repeated",
    )
    parser.add_argument(
        "--heatmaps",
        type=Path,
        metavar="SCORES.csv",
        help="heatmap_scores.csv of 'anymc3d explain': how well the maps point at the masks",
    )
    parser.add_argument(
        "--segmentations",
        type=Path,
        metavar="TABLE.csv",
        help="segmentations.csv of 'anymc3d predict --segmentation': Dice of every structure",
    )
    parser.add_argument("--resamples", type=int, default=2000, metavar="N", help="of the bootstrap (default: 2000)")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap (default: 0)")
    add_pseudonymize(parser, "the predictions were made with this option and key")
    parser.add_argument("--overwrite", action="store_true", help="replace the results of other inputs in OUT")
    parser.add_argument("--json", action="store_true", help="print all results as JSON")
    parser.add_argument("--quiet", action="store_true", help="print warnings only")


def run(args: argparse.Namespace) -> int:
    """Evaluate; undefined metrics are no failure, each has its reason in the table."""
    settings = _settings(args)
    from anymc3d.evaluate.command import evaluate_predictions

    study = evaluate_predictions(
        args.predictions,
        args.manifest,
        args.out,
        tasks=args.task,
        settings=settings,
        pseudonyms=chosen_pseudonyms(args, [args.out]),
        heatmaps=args.heatmaps,
        segmentations=args.segmentations,
        overwrite=args.overwrite,
    )
    _report(study, args)
    return 0


def _settings(args: argparse.Namespace) -> StudySettings:
    if args.resamples < 100:
        raise UsageError(f"--resamples: expected 100 or more for a 95 % interval, got {args.resamples}")
    if args.seed < 0:
        raise UsageError(f"--seed: expected 0 or more, got {args.seed}")
    from anymc3d.evaluate.measures import Sampling
    from anymc3d.evaluate.study_cases import StudySettings

    points = args.operating_points
    return StudySettings(
        groups=tuple(_listed(args.groups, "--groups")),
        operating_points=None if points is None else tuple(_listed(points, "--operating-points")),
        severity=tuple(_listed(args.severity, "--severity")),
        sampling=Sampling(num_resamples=args.resamples, seed=args.seed),
    )


def _report(study: Study, args: argparse.Namespace) -> None:
    from anymc3d.cli.cells import metric_record
    from anymc3d.cli.main import print_json

    for warning in study.warnings:
        warn(warning)
    if args.json:
        metrics = [metric_record(row) for row in study.rows]
        print_json({"out": str(args.out), "split": study.split, "warnings": study.warnings, "metrics": metrics})
    elif not args.quiet:
        _print_tables(study, args.out)


def _print_tables(study: Study, out: Path) -> None:
    from anymc3d.evaluate.command import METRICS
    from anymc3d.evaluate.regression.summary import differences_table, numbers_table
    from anymc3d.evaluate.summary import (
        NOTICE,
        SEVERITY_NOTE,
        covariates_table,
        main_table,
        meanings,
        severity_table,
    )
    from anymc3d.printable import shown

    say(*meanings(study))
    if study.numbers is not None:
        say_text(numbers_table(study.numbers.rows, cell=shown, brief=True))
        say_text(differences_table(study.numbers.rows, cell=shown))
    if study.plugins:
        say_text(main_table(study, brief=True))
    if study.with_covariates:
        say("")
        say_text(covariates_table(study, brief=True))
    if study.severity_groups:
        say("")
        say_text(severity_table(study))
        say(SEVERITY_NOTE)
    results = [row for row in study.rows if row["value"] is not None]
    bounded = sum(row["ci_low"] is not None for row in results)
    say(f"{out / METRICS}: {len(results)} results, {bounded} with intervals; pictures and table.md beside it")
    say(NOTICE)


def _listed(text: str | None, option: str) -> list[str]:
    if text is None:
        return []
    names = [name.strip() for name in text.split(",")]
    if "" in names or len(set(names)) < len(names):
        raise UsageError(f"{option}: expected different names separated by commas, got {text!r}")
    return names
