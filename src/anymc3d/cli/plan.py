"""``anymc3d plan MANIFEST.csv --labels COL[,COL…] -o task.yaml``, or with ``--recipe T2`` one of the paper's tasks."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from anymc3d.cli.options.inputs import add_roi
from anymc3d.cli.say import say, say_text, warn
from anymc3d.errors import UsageError
from anymc3d.settings.windows import parse_windows
from anymc3d.types import Modality

if TYPE_CHECKING:
    from anymc3d.cost.progress import Progress
    from anymc3d.plan import Plan


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    # A window may begin with a minus: -150:250 after --windows is its value, not an option.
    parser._negative_number_matcher = re.compile(r"^-\d[\w.:,-]*$")
    parser.add_argument("manifest", type=Path, metavar="MANIFEST.csv", help="the table of cases, or a MedMNIST .npz")
    parser.add_argument("--labels", metavar="COL[,COL…]", help="the label column, or several of 0/1")
    parser.add_argument("--recipe", metavar="T1…T12", help="a task of the paper (see 'anymc3d benchmark --list-tasks')")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="task.yaml", help="the task file to write")
    parser.add_argument(
        "--backbone", metavar="NAME", help="name, folder or file (default: dinov2-small, or the recipe's)"
    )
    parser.add_argument("--name", help="of the task (default: the label column)")
    parser.add_argument("--image", metavar="COLUMN", help="the image column to use (default: all, one view each)")
    parser.add_argument("--views", metavar="PLANES", help="planes of one image, such as axial,coronal,sagittal")
    add_roi(parser, "crop every scan: to its mask, 10 mm around; to 64 mm about its point of interest; as a YAML says")
    parser.add_argument(
        "--windows",
        metavar="NAME|LOW:HIGH[,…]",
        help="CT or PET windows, one or three: lung, -150:250",
    )
    parser.add_argument(
        "--modality", choices=get_args(Modality), help="of the scans (default: what headers say, or the values show)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the split, when the manifest has none (default: 0)")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing task file")
    parser.add_argument("--no-timing", action="store_true", help="do not measure how long an epoch takes here")
    parser.add_argument("--json", action="store_true", help="print settings and reasons as JSON")
    parser.add_argument("--quiet", action="store_true", help="no progress bar, no summary")


def run(args: argparse.Namespace) -> int:
    """Measure, write the task file, and say why.

    Raises:
        UsageError: the task file exists, or the arguments do not fit.
        ManifestError: every fault of the data set.
    """
    if args.out.exists() and not args.overwrite:
        raise UsageError(f"{args.out} exists; --overwrite replaces it, or choose another name with -o")
    if not args.labels and not args.recipe:
        raise UsageError("anymc3d plan: expected --labels COL[,COL…], or --recipe for a task of the paper")
    if args.recipe and (args.views or args.roi or args.modality):
        what = "views" if args.views else "region" if args.roi else "modality"
        raise UsageError(f"anymc3d plan: a recipe has its own {what}; leave the option out, or plan without --recipe")

    from anymc3d.cli.main import print_json
    from anymc3d.cost.progress import Progress
    from anymc3d.plan.training_time import missing_weights, training_time
    from anymc3d.settings.decision_text import what_is_positive
    from anymc3d.settings.plain import to_plain
    from anymc3d.settings.task_file import write_task

    with Progress(what="reading headers", unit="scan", quiet=args.quiet or args.json) as bar:
        plan = _plan(args, bar)
    write_task(args.out, plan.settings, plan.reasons)
    missing = missing_weights(plan.settings.backbone.name)
    warnings = [*plan.warnings, *([missing] if missing else [])]
    timing = None if args.quiet or args.no_timing else training_time(plan.settings, plan.num_train)
    if args.json:
        settings, reasons = to_plain(plan.settings), dict(plan.reasons)
        seconds = {} if timing is None else {"seconds_per_epoch": round(timing.seconds_per_epoch, 1)}
        print_json({"task": str(args.out), "settings": settings, "reasons": reasons, "warnings": warnings} | seconds)
        return 0
    for line in warnings:
        warn(line)
    if not args.quiet:
        say(what_is_positive(plan.settings.labels), "")
        say_text(args.out.read_text(encoding="utf-8"))
        if timing is not None:
            say("", timing.text(plan.settings.train.epochs))
        say("", f"written to {args.out}; change what you know better, then: anymc3d train {args.out} -o RUN")
    return 0


def _plan(args: argparse.Namespace, bar: Progress) -> Plan:
    from anymc3d.plan import plan_recipe, plan_task
    from anymc3d.recipes.table import find_recipe
    from anymc3d.settings.task_file import is_path

    backbone = str(Path(args.backbone).absolute()) if args.backbone and is_path(args.backbone) else args.backbone
    windows = () if args.windows is None else parse_windows(args.windows)
    if args.recipe:
        return plan_recipe(
            args.manifest,
            find_recipe(args.recipe),
            label_columns=_names(args.labels or ""),
            name=args.name,
            backbone_name=backbone,
            image_column=args.image,
            windows=windows,
            seed=args.seed,
            progress=bar.update,
        )
    return plan_task(
        args.manifest,
        _names(args.labels),
        name=args.name,
        backbone_name=backbone or "dinov2-small",
        image_column=args.image,
        planes=_names(args.views or ""),
        windows=windows,
        modality=args.modality,
        roi=args.roi,
        segmenters=args.segmenter,
        seed=args.seed,
        progress=bar.update,
    )


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())
