"""The options that replace case ids by pseudonyms; one meaning for every command."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from anymc3d.errors import UsageError

if TYPE_CHECKING:
    from anymc3d.data.pseudonyms import Pseudonyms


def add_pseudonymize(parser: argparse.ArgumentParser, help_text: str) -> None:
    """Add ``--pseudonymize KEYFILE``."""
    parser.add_argument(
        "--pseudonymize", type=Path, metavar="KEYFILE", help=f"{help_text}; the key is created if needed"
    )


def add_map(parser: argparse.ArgumentParser) -> None:
    """Add ``--pseudonym-map FILE``."""
    parser.add_argument(
        "--pseudonym-map",
        type=Path,
        metavar="FILE.csv",
        help="also write which case got which pseudonym",
    )


def chosen_pseudonyms(args: argparse.Namespace, apart_from: Sequence[Path]) -> Pseudonyms | None:
    """The pseudonyms that were asked for; ``apart_from``: folders in which neither key nor map may lie.

    Raises:
        UsageError: the key or the map cannot be used.
    """
    wanted_map: Path | None = getattr(args, "pseudonym_map", None)
    if args.pseudonymize is None:
        if wanted_map is not None:
            raise UsageError("--pseudonym-map: only together with --pseudonymize KEYFILE")
        return None
    from anymc3d.data.pseudonyms import load_pseudonyms, refuse_inside

    if wanted_map is not None:
        refuse_inside(wanted_map, apart_from, "--pseudonym-map: the map")
    return load_pseudonyms(args.pseudonymize, apart_from=apart_from)
