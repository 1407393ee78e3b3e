"""``anymc3d mcp -p PLUGIN … --data DIR [-o OUT]``."""

from __future__ import annotations

import argparse
from pathlib import Path

from anymc3d.cli.options.compute import add_device
from anymc3d.errors import PackageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument(
        "-p", "--plugin", action="append", default=[], type=Path, metavar="PLUGIN", help="may be used; can be repeated"
    )
    parser.add_argument(
        "--data",
        action="append",
        default=[],
        type=Path,
        metavar="DIR",
        help="a folder that may be read; can be repeated (default: the current folder)",
    )
    parser.add_argument(
        "-o", "--out", type=Path, metavar="OUT", help="a folder that may be written to; without it nothing is written"
    )
    add_device(parser)
    parser.add_argument("--timeout", type=float, default=1800.0, metavar="S", help="seconds that one call may take")


def run(args: argparse.Namespace) -> int:
    """Answer on standard input and output until it ends."""
    try:
        import mcp  # noqa: F401
    except ImportError:
        raise PackageError("mcp: needs the package mcp: pip install 'anymc3d[mcp]'") from None
    from anymc3d.serve.tools import Tools, ToolSettings, run_stdio

    settings = ToolSettings(
        plugins=tuple(path.resolve() for path in args.plugin),
        inputs=tuple(args.data) or (Path(),),
        out=args.out,
        timeout_s=args.timeout,
        device=args.device,
    )
    if args.out is not None:
        args.out.mkdir(mode=0o700, parents=True, exist_ok=True)
    run_stdio(Tools(settings))
    return 0
