"""``anymc3d merge OUT``: one table out of the parts of a run that was split by ``--part K/N``."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from anymc3d.cli.options.parquet import add_parquet, check_parquet, write_parquet
from anymc3d.cli.refusals import warn_of
from anymc3d.cli.say import say

if TYPE_CHECKING:
    from anymc3d.parts.merge import MergeResult


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("out", type=Path, metavar="OUT", help="the output folder that all parts were given")
    parser.add_argument("--of", type=int, metavar="N", help="the parts of N, where those of several splits lie there")
    add_parquet(parser)
    parser.add_argument("--json", action="store_true", help="print what was joined as JSON")
    parser.add_argument("--quiet", action="store_true", help="print warnings only")


def run(args: argparse.Namespace) -> int:
    """Join the parts; the exit code is that of the whole run."""
    from anymc3d.parts.merge import merge_parts

    check_parquet(args)
    merged = merge_parts(args.out, args.of)
    if args.parquet:
        write_parquet(args.out)
    print_merged(args.out, merged, as_json=args.json, quiet=args.quiet)
    return merged.exit_code


def print_merged(out: Path, merged: MergeResult, *, as_json: bool, quiet: bool) -> None:
    """Print what was joined."""
    warn_of(merged.refused, "case")
    if as_json:
        from anymc3d.cli.main import print_json

        print_json(asdict(merged))
    elif not quiet:
        for name, rows in merged.tables.items():
            say(f"{out / name}: {rows} rows")
        failed = f", {merged.failed} of them failed" if merged.failed else ""
        say(f"{merged.parts} parts, {merged.cases} cases{failed}")
