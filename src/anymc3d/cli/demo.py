"""``anymc3d demo [-o DIR]``."""

from __future__ import annotations

import argparse
from pathlib import Path

from anymc3d.cli.options.compute import add_device
from anymc3d.cli.say import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("-o", "--out", type=Path, default=Path("demo"), metavar="DIR", help="default: ./demo")
    parser.add_argument("--backbone", help="weights to use in place of dinov2-small-imgfocus: a name, folder or file")
    add_device(parser)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--quiet", action="store_true", help="no progress, only the result")


def run(args: argparse.Namespace) -> int:
    """Run the demo and say what was made."""
    from anymc3d.cli.main import print_json
    from anymc3d.demo.journey import run_demo, summary

    silent = args.quiet or args.json
    result = run_demo(
        args.out,
        say=(lambda _: None) if silent else say,
        backbone=args.backbone,
        device=args.device,
        quiet=silent,
    )
    if args.json:
        print_json(
            {
                "auroc": result.auroc,
                "interval": result.interval,
                "rules": result.rules,
                "files": {name: str(path) for name, path in result.files.items()},
            }
        )
    else:
        say(*summary(result))
    return 0
