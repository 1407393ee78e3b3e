"""The ``anymc3d`` command: one table from sub-command to module; each module parses, calls one function, prints.

Nothing heavy is imported before the chosen command runs, so ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

from anymc3d.errors import AnyMC3DError, UsageError, did_you_mean
from anymc3d.version import __version__

COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("anymc3d.cli.demo", "the whole main job on data it makes itself"),
    "doctor": ("anymc3d.cli.doctor", "check the installation, or find every fault of a data set before training"),
    "plan": ("anymc3d.cli.plan", "measure a data set and write a task file with a reason for each choice"),
    "train": ("anymc3d.cli.train", "train a task; the same command again resumes"),
    "predict": ("anymc3d.cli.predict", "classify scans with one or several plugins"),
    "evaluate": ("anymc3d.cli.evaluate", "metrics with confidence intervals from tables alone"),
    "explain": ("anymc3d.cli.explain", "heatmaps of where a classifier looked, on the scan's own grid"),
    "report": ("anymc3d.cli.report", "one self-contained HTML file of a study, a training run or an evaluation"),
    "calibrate": (
        "anymc3d.cli.calibrate",
        "fit operating points and probabilities on labelled cases, not weights",
    ),
    "ensemble": ("anymc3d.cli.ensemble", "one artefact out of several plugins of one task"),
    "plugin": ("anymc3d.cli.plugin", "show, verify, export and import plugins"),
    "benchmark": ("anymc3d.cli.benchmark", "compare methods on tasks: run, resume, and the paper's tables"),
    "backbone": ("anymc3d.cli.backbone", "list, get, import, verify and show backbones"),
    "data": ("anymc3d.cli.data", "manifests from public layouts, splits and folds, and the cache of prepared scans"),
    "pandx": ("anymc3d.cli.pandx", "PanDx for pancreatic cancer: nnU-Net draws, this makes scores of it"),
    "vlm3d": ("anymc3d.cli.vlm3d", "the VLM3D challenge: train an ensemble, results.json, its metrics, its container"),
}

INTERNAL_ERROR = 1
INTERRUPTED = 75


class Parser(argparse.ArgumentParser):
    """Usage errors as one line with a suggestion, exit code 2."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{self.prog}: {message}; see '{self.prog} --help'")


def overview() -> Parser:
    """The parser of ``anymc3d --help`` and ``--version``; imports no command."""
    parser = Parser(
        prog="anymc3d",
        description="From a folder of 3D scans and a CSV of labels to a classifier you can trust. Research use only.",
    )
    parser.add_argument("--version", action="version", version=f"anymc3d {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    for name, (_, summary) in COMMANDS.items():
        subparsers.add_parser(name, help=summary)
    return parser


def parse(command: str, words: Sequence[str]) -> argparse.Namespace:
    """Parse the words after ``command``; options and positional words may come in any order."""
    module, summary = COMMANDS[command]
    parser = Parser(prog=f"anymc3d {command}", description=summary[0].upper() + summary[1:] + ".")
    importlib.import_module(module).add_arguments(parser)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an internal error")
    has_actions = any(isinstance(action, argparse._SubParsersAction) for action in parser._actions)
    return parser.parse_args(words) if has_actions else parser.parse_intermixed_args(words)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; errors are one clear line on stderr."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if not words or words[0].startswith("-"):
            overview().parse_args(words)
            overview().print_help()
            return 2
        command = words[0]
        if command not in COMMANDS:
            raise UsageError(f"anymc3d: unknown command {command!r}{did_you_mean(command, COMMANDS)}")
        parsed = parse(command, words[1:])
        logging.basicConfig(
            level=logging.WARNING if getattr(parsed, "quiet", False) else logging.INFO,
            format="%(message)s",
            stream=sys.stderr,
        )
        with stoppable():
            return importlib.import_module(COMMANDS[command][0]).run(parsed)
    except AnyMC3DError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted; the same command continues where it stopped", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        return INTERNAL_ERROR
    except Exception as error:  # noqa: BLE001 - the last boundary: an internal error is one line, not a traceback
        if "--debug" in words:
            traceback.print_exc()
        text = " ".join(str(error).split())
        print(
            f"internal error: {type(error).__name__}: {text} (run again with --debug for the traceback)",
            file=sys.stderr,
        )
        return INTERNAL_ERROR


@contextmanager
def stoppable() -> Iterator[None]:
    """A scheduler's SIGTERM or SIGUSR1 ends a command as Ctrl-C does, with exit code 75 (only in the main thread)."""
    before = {}
    try:
        for number in (signal.SIGTERM, signal.SIGUSR1):
            before[number] = signal.signal(number, signal.default_int_handler)
    except ValueError:
        logging.getLogger(__name__).debug("not the main thread: stop signals keep their usual effect")
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def print_json(value: object) -> None:
    """Machine output of every command with ``--json``: one JSON value on stdout."""
    print(json.dumps(value, indent=2, allow_nan=False))


if __name__ == "__main__":
    sys.exit(main())
