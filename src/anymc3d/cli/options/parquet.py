"""``--parquet``: the table of answers for data frames, beside the CSV."""

from __future__ import annotations

import argparse
from pathlib import Path

from anymc3d.errors import UsageError


def add_parquet(parser: argparse.ArgumentParser) -> None:
    """Add the option."""
    parser.add_argument("--parquet", action="store_true", help="also OUT/predictions.parquet, with numbers as numbers")


def check_parquet(args: argparse.Namespace) -> None:
    """Check before the work begins that the table can be written.

    Raises:
        UsageError: pyarrow is not installed, or this is a part, whose table is joined first.
    """
    from anymc3d.files.parquet import check_can_write

    if not args.parquet:
        return
    if getattr(args, "part", None) is not None:
        raise UsageError("--parquet: of parts the joined table is written; give it to 'anymc3d merge'")
    check_can_write()


def write_parquet(out: Path) -> None:
    """Write it.

    Raises:
        UsageError: there are no predictions.
    """
    from anymc3d.files.parquet import write_beside

    table = out / "predictions.csv"
    if not table.exists():
        raise UsageError(f"--parquet: {out} has no predictions.csv")
    write_beside(table)
