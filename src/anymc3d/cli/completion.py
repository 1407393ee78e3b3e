"""``anymc3d completion SHELL``: the script that completes commands and options."""

from __future__ import annotations

import argparse

from anymc3d.cli.say import answer_text
from anymc3d.errors import PackageError

SHELLS = ("bash", "zsh", "tcsh")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("shell", choices=SHELLS, metavar="SHELL", help=f"one of {', '.join(SHELLS)}")


def run(args: argparse.Namespace) -> int:
    """Print the script."""
    try:
        import shtab
    except ImportError:
        raise PackageError("completion: needs the package shtab: pip install 'anymc3d[completion]'") from None
    answer_text(shtab.complete(whole_parser(), shell=args.shell))
    return 0


def whole_parser() -> argparse.ArgumentParser:
    """All commands as one parser, as the completion script wants it; running a command builds only its own."""
    from anymc3d.cli.main import COMMANDS, parser_of

    whole = argparse.ArgumentParser(prog="anymc3d")
    commands = whole.add_subparsers(dest="command")
    for name, (_, summary) in COMMANDS.items():
        command_parser = parser_of(name)
        commands.add_parser(name, help=summary, parents=[command_parser], add_help=False, conflict_handler="resolve")
    return whole
