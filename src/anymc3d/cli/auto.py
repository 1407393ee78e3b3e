"""``anymc3d auto MANIFEST.csv --labels COL[,COL…] -o OUT``."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from anymc3d.cli.options.compute import add_device
from anymc3d.cli.options.inputs import add_roi, add_workers, checked_workers
from anymc3d.cli.say import say, warn


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("manifest", type=Path, metavar="MANIFEST.csv", help="the table of cases, or a MedMNIST .npz")
    parser.add_argument("--labels", required=True, metavar="COL[,COL…]", help="the label column, or several of 0/1")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="OUT", help="the folder; created if needed")
    parser.add_argument("--minutes", type=float, default=30.0, metavar="N", help="the whole budget (default: 30)")
    parser.add_argument(
        "--embeddings",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="a folder of 'anymc3d embed' in place of the scans, none of which is read; can be repeated",
    )
    parser.add_argument(
        "--backbone",
        metavar="NAME",
        help="name, folder or file (default: dinov2-small; with --embeddings the one that made them)",
    )
    add_device(parser)
    parser.add_argument(
        "--leave-out", metavar="COL", help="leave every value of this column out once (default: site, if there is one)"
    )
    parser.add_argument(
        "--covariates", default="", metavar="COL[,COL…]", help="clinical columns that may answer beside the image"
    )
    parser.add_argument(
        "--kind",
        choices=["binary", "multiclass", "ordinal", "multilabel", "regression"],
        help="what the labels are, where that is in doubt; regression: a number",
    )
    add_roi(
        parser,
        "also show every scan cropped to a region, such as one that a network draws; the manifest's masks and points "
        "are used without this",
    )
    add_workers(parser)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--quiet", action="store_true", help="print warnings and the result only")


def run(args: argparse.Namespace) -> int:
    """Search, blend and write; or resume, or find it done."""
    from anymc3d.automl.run import auto
    from anymc3d.cli.main import print_json
    from anymc3d.data.prefetch.queue import asking_for

    with asking_for(checked_workers(args)):
        summary = auto(
            args.manifest,
            [name.strip() for name in args.labels.split(",") if name.strip()],
            args.out,
            minutes=args.minutes,
            backbone=args.backbone,
            device=args.device,
            leave_out=args.leave_out,
            covariates=args.covariates,
            kind=args.kind,
            embeddings=args.embeddings,
            roi=args.roi,
            segmenters=args.segmenter,
            quiet=args.quiet or args.json,
        )
    for doubt in summary.get("doubts", ()):
        warn(f"the plugin: {doubt}")
    if args.json:
        print_json(summary)
        return 0
    say(*_lines(summary))
    say(f"plugin: {args.out / 'plugin.safetensors'}; report: {args.out / 'report.html'}")
    return 0


def _lines(summary: Mapping[str, Any]) -> Iterator[str]:
    from anymc3d.automl.page import lacks_answers

    yield summary["verdict"]
    yield from _clinical_lines(summary)
    for member in summary["members"]:
        yield f"  weight {member['weight']:.2f}: {member['candidate']}"
    if summary["test"] is not None:
        yield f"test split, scored once: {summary['metric']} {_value(summary['test'])}{lacks_answers(summary)}"
    if summary["sites"]:
        for name, site in summary["sites"]["sites"].items():
            yield f"without {name}: {summary['metric']} {_value(site)}, n = {site['n']}"
    yield f"{summary['candidates']} candidates in {summary['seconds'] / 60:.1f} minutes"


def _clinical_lines(summary: Mapping[str, Any]) -> Iterator[str]:
    """What the clinical columns say alone, and beside the image."""
    if summary["covariates"] is None:
        return
    metric = summary["covariates"]["metric"]
    for row in summary["covariates"]["answers"]:
        yield f"  {metric}, {row['what']}, {row['label']}: {_value(row)}"
    for row in summary["covariates"]["differences"]:
        p = "" if row["p"] is None else f", p = {row['p']:.3g} (paired)"
        yield f"  {row['what']}, {row['label']}: {_value(row)}{p}"


def _value(row: Mapping[str, Any]) -> str:
    if row["value"] is None:
        return "undefined"
    if row["low"] is None:
        return f"{row['value']:.3f}"
    return f"{row['value']:.3f} (95 % interval {row['low']:.3f} to {row['high']:.3f})"
