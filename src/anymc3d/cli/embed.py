"""``anymc3d embed -i SCAN… | MANIFEST.csv -o OUT``: embeddings of scans for other programs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from anymc3d.cli.options.compute import add_arithmetic, add_device, check_compute
from anymc3d.cli.options.inputs import (
    add_case_memory,
    add_case_options,
    add_input,
    add_workers,
    case_memory,
    cases_of,
    chosen_workers,
)
from anymc3d.cli.options.parts import add_part, chosen_part, folder_of, is_split, names_of, run_split
from anymc3d.cli.options.pseudonyms import add_pseudonymize, chosen_pseudonyms
from anymc3d.cli.refusals import warn_of_refusals
from anymc3d.cli.say import say
from anymc3d.errors import UsageError

if TYPE_CHECKING:
    from anymc3d.embed.folder import EmbedResult
    from anymc3d.embed.source import EmbedSettings, Source


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("-p", "--plugin", metavar="PLUGIN", help="as this trained model sees the scans; else frozen")
    add_input(parser)
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="OUT", help="the output folder")
    parser.add_argument("--level", default="slice", help="slice, scan, patch or mask (default: slice)")
    parser.add_argument(
        "--features", default="class", metavar="NAME", help="of a frozen backbone, as in the task file (default: class)"
    )
    parser.add_argument("--task", type=Path, metavar="TASK.yaml", help="frozen: its views and backbone")
    parser.add_argument("--backbone", help="folder, file or name (default: the plugin's, the task's, or dinov2-small)")
    add_device(parser)
    add_arithmetic(parser)
    parser.add_argument("--timeout", type=float, metavar="S", help="seconds a case may take; then it is an error")
    add_case_memory(parser)
    parser.add_argument(
        "--format",
        choices=("safetensors", "parquet"),
        default="safetensors",
        help="parquet: one table of all cases beside the arrays (default: safetensors)",
    )
    add_case_options(parser)
    add_workers(parser)
    add_part(parser)
    add_pseudonymize(parser, "name cases by keyed pseudonyms")
    parser.add_argument("--json", action="store_true", help="print the table as JSON")
    parser.add_argument("--quiet", action="store_true", help="print warnings only")


def run(args: argparse.Namespace) -> int:
    """Embed all inputs; the exit code says whether some or all failed."""
    _check_options(args)
    from anymc3d.embed.folder import embed_cohort
    from anymc3d.embed.source import EmbedSettings
    from anymc3d.files.parts import part_of

    settings = EmbedSettings(level=args.level, features=args.features)
    pseudonyms = chosen_pseudonyms(args, [folder_of(args)])
    cases = cases_of(args)
    source = _source(args, settings)
    if is_split(args):
        return run_split(args)
    common = {"timeout": args.timeout, "case_memory": args.case_memory}
    with part_of(args.out, chosen_part(args), cases, common, names=names_of(cases, pseudonyms)) as (out, part_cases):
        result = embed_cohort(
            source,
            part_cases,
            out,
            settings,
            pseudonyms=pseudonyms,
            timeout_s=args.timeout,
            case_memory=case_memory(args),
            workers=chosen_workers(args, len(part_cases)),
            quiet=args.quiet,
        )
    warn_of_refusals(result.rows)
    _report(args, result, out)
    return result.exit_code


def _check_options(args: argparse.Namespace) -> None:
    check_compute(args)
    if args.format == "parquet":
        from anymc3d.embed.parquet import check_level

        check_level(args.level)
        if is_split(args) or chosen_part(args) is not None:
            raise UsageError("--format parquet: of a run in one piece; leave it out of a run in parts")


def _report(args: argparse.Namespace, result: EmbedResult, out: Path) -> None:
    """Write the one table where it was asked for, and say what was made."""
    from anymc3d.cli.main import print_json
    from anymc3d.embed.folder import TABLE
    from anymc3d.embed.parquet import write_parquet

    table = write_parquet(args.out) if args.format == "parquet" else args.out / TABLE
    if args.json:
        print_json(result.rows)
    elif not args.quiet:
        failed = sum(row["status"] == "error" for row in result.rows)
        say(f"{table}: {len(result.rows) - failed} of {len(result.rows)} views embedded, level {args.level}")
        say(f"In Python: anymc3d.load_embeddings({str(out)!r}).numpy()")
        say("Research use only. Not a medical device.")


def _source(args: argparse.Namespace, settings: EmbedSettings) -> Source:
    from anymc3d.embed.source import of_backbone, of_plugin
    from anymc3d.plugins import load_plugin
    from anymc3d.settings.task_file import read_task

    common = {
        "backbone": args.backbone,
        "device": args.device,
        "precision": args.precision,
        "chunk_size": args.chunk_size,
        "segmenters": tuple(args.segmenter),
    }
    if args.plugin is None:
        task = None if args.task is None else read_task(args.task)
        return of_backbone(task, features=settings.features, **common)
    if args.task is not None:
        raise UsageError("--task: a plugin has its own views; leave one of them out")
    if settings.features != "class":
        raise UsageError("--features: is of a frozen backbone; a plugin has its own; leave one of them out")
    return of_plugin(load_plugin(args.plugin), **common)
