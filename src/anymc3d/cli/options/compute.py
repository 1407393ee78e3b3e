"""Where and how a network runs: one meaning, and one help text, for every command that has these options."""

from __future__ import annotations

import argparse
import math

from anymc3d.errors import UsageError


def add_device(parser: argparse._ActionsContainer) -> None:
    """Add ``--device``."""
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")


def add_backbone(parser: argparse._ActionsContainer) -> None:
    """Add ``--backbone`` of commands that use a plugin."""
    parser.add_argument("--backbone", help="folder, file or name; default: found by the plugin's fingerprint")


def add_arithmetic(parser: argparse._ActionsContainer, *, chunk_size: int = 64) -> None:
    """Add ``--precision`` and ``--chunk-size``."""
    parser.add_argument(
        "--precision", choices=("fp32", "bf16", "auto"), default="fp32", help="of the backbone (default: fp32, exact)"
    )
    parser.add_argument(
        "--chunk-size",
        type=int,
        default=chunk_size,
        metavar="N",
        help=f"slices per backbone call (default: {chunk_size})",
    )


def check_compute(args: argparse.Namespace) -> None:
    """Refuse a chunk size or time limit that cannot be meant.

    Raises:
        UsageError: it is not above 0.
    """
    if args.chunk_size < 1:
        raise UsageError(f"--chunk-size: expected 1 or more, got {args.chunk_size}")
    if args.timeout is not None and not 0 < args.timeout < math.inf:
        raise UsageError(f"--timeout: expected seconds above 0, got {args.timeout:g}")
