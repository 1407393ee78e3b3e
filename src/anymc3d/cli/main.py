"""The ``anymc3d`` command: one table from sub-command to module; each module parses, calls one function, prints.

Nothing heavy is imported before the chosen command runs, so ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any

from anymc3d.cli.boundary import alive, fetching, last_words, logged, private, stoppable
from anymc3d.cli.examples import EXAMPLES
from anymc3d.cli.parser import Parser, add_common, examples_text
from anymc3d.cli.say import answer, answer_text, fail, hushed
from anymc3d.error_codes import CODES
from anymc3d.errors import AnyMC3DError, OptionError, did_you_mean
from anymc3d.version import __version__

GROUPS: dict[str, dict[str, tuple[str, str]]] = {
    "start": {
        "demo": ("anymc3d.cli.demo", "the whole main job on data it makes itself"),
        "doctor": ("anymc3d.cli.doctor", "check the installation, or find every fault of a data set before training"),
        "data": ("anymc3d.cli.data", "manifests from folders and public layouts, splits and folds, the cache"),
        "backbone": ("anymc3d.cli.backbone", "list, get, import, verify and show backbones"),
    },
    "the main job": {
        "auto": ("anymc3d.cli.auto", "from a manifest to the best ensemble that fits the time"),
        "plan": ("anymc3d.cli.plan", "measure a data set and write a task file with a reason for each choice"),
        "train": ("anymc3d.cli.train", "train a task; the same command again resumes"),
        "predict": ("anymc3d.cli.predict", "classify scans with one or several plugins"),
        "evaluate": ("anymc3d.cli.evaluate", "metrics with confidence intervals from tables alone"),
    },
    "look": {
        "explain": ("anymc3d.cli.explain", "heatmaps of where a classifier looked, on the scan's own grid"),
        "report": ("anymc3d.cli.report", "one HTML file of a study, a training run or an evaluation"),
    },
    "plugins (trained model files)": {
        "plugin": ("anymc3d.cli.plugin", "show, verify, share, export and import plugins"),
        "calibrate": ("anymc3d.cli.calibrate", "fit operating points and probabilities on labelled cases"),
        "ensemble": ("anymc3d.cli.ensemble", "one file out of several plugins of one task"),
    },
    "every day": {
        "embed": ("anymc3d.cli.embed", "embeddings of scans, frozen or as a plugin sees them"),
        "merge": ("anymc3d.cli.merge", "one table out of the parts of a run split by --part or --backend"),
        "serve": ("anymc3d.cli.serve", "a resident service: HTTP, one queue, results"),
        "mcp": ("anymc3d.cli.mcp", "tools for programs that drive tools: the Model Context Protocol on stdio"),
    },
    "compare, and challenges": {
        "benchmark": ("anymc3d.cli.benchmark", "compare methods on tasks: run, resume, and the paper's tables"),
        "vlm3d": ("anymc3d.cli.vlm3d", "the VLM3D challenge: train, results.json, metrics, container"),
        "pandx": ("anymc3d.cli.pandx", "PanDx for pancreatic cancer, around nnU-Net"),
    },
    "this program": {
        "completion": ("anymc3d.cli.completion", "the script that completes words in your shell"),
    },
}
COMMANDS: dict[str, tuple[str, str]] = {name: entry for group in GROUPS.values() for name, entry in group.items()}
"""Command -> the module that parses and runs it, and what it does in one line."""

_printed: ContextVar[list[Any] | None] = ContextVar("printed", default=None)
"""Where the JSON goes of a command that a function of the package runs."""

INTERNAL_ERROR = 1
INTERRUPTED = 75


def overview() -> str:
    """``anymc3d --help``; imports no command."""
    lines = [
        "usage: anymc3d COMMAND …",
        "",
        "From a folder of 3D scans and a CSV of labels to a classifier you can trust. Research use only.",
    ]
    for title, group in GROUPS.items():
        lines += ["", f"{title}:", *(f"  {name:<12}{summary}" for name, (_, summary) in group.items())]
    lines += ["", "anymc3d help COMMAND   what a command takes, with examples", "anymc3d version", ""]
    return "\n".join([*lines, examples_text(EXAMPLES[""])])


def parser_of(command: str) -> Parser:
    """A command's parser, with its examples and the options that all commands have."""
    module, summary = COMMANDS[command]
    parser = Parser(prog=f"anymc3d {command}", description=summary[0].upper() + summary[1:] + ".")
    importlib.import_module(module).add_arguments(parser)
    add_common(parser)
    parser.epilog = examples_text(EXAMPLES[command])
    for name, action in parser.actions().items():
        action.epilog = examples_text(EXAMPLES[f"{command} {name}"])
    return parser


def parse(command: str, words: Sequence[str]) -> argparse.Namespace:
    """Parse the words after ``command``."""
    return parser_of(command).read(words)


def call(command: str, words: Sequence[str]) -> tuple[int, list[Any]]:
    """Run one command from Python: its exit code and what it gives with ``--json``; errors are raised."""
    parsed, printed = parse(command, words), list[Any]()
    parsed.given = (command, *words)
    token = _printed.set(printed)
    try:
        with private(), fetching(parsed), hushed(parsed.quiet):
            return importlib.import_module(COMMANDS[command][0]).run(parsed), printed
    finally:
        _printed.reset(token)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; errors are one clear line on stderr."""
    code, why = ended(sys.argv[1:] if arguments is None else arguments)
    if why:
        fail(why)
    return code


def ended(arguments: Sequence[str]) -> tuple[int, str]:
    """Run one command: its exit code, and what there is to say of its end."""
    words = list(arguments)
    try:
        command, words = _command_of(words)
        if command is None:
            return int(words[0]), ""
        parsed = parse(command, words)
        parsed.given = (command, *words)
        with private(), logged(parsed), stoppable(), fetching(parsed), hushed(parsed.quiet), alive(command, parsed):
            return importlib.import_module(COMMANDS[command][0]).run(parsed), ""
    except AnyMC3DError as error:
        return error.exit_code, f"error: {error.with_code}"
    except KeyboardInterrupt:
        return INTERRUPTED, "interrupted; the same command continues where it stopped"
    except BrokenPipeError:
        return INTERNAL_ERROR, ""
    except Exception as error:  # noqa: BLE001 - the last boundary: an internal error is one line, not a traceback
        line, exit_code = last_words(error, debug="--debug" in words)
        return exit_code, line


def _command_of(words: list[str]) -> tuple[str | None, list[str]]:
    """The command and its words; None and the exit code where help or the version was all that was asked for."""
    if not words:
        answer_text(overview())
        return None, ["2"]
    if words[0] in ("--version", "version"):
        answer(f"anymc3d {__version__}")
        return None, ["0"]
    if words[0] in ("-h", "--help") or words == ["help"]:
        answer_text(overview())
        return None, ["0"]
    if words[0] == "help" and words[1].startswith("E-"):
        if words[1] not in CODES:
            raise OptionError(f"anymc3d help: unknown code {words[1]!r}{did_you_mean(words[1], CODES)}")
        answer_text("\n".join([words[1], *CODES[words[1]], "", f"docs/troubleshooting.md#{words[1].lower()}"]))
        return None, ["0"]
    if words[0] == "help":
        words = [*words[1:], "--help"]
    if words[0] not in COMMANDS:
        near = did_you_mean(words[0], [*COMMANDS, "help", "version"])
        raise OptionError(f"anymc3d: unknown command {words[0]!r}{near}")
    return words[0], words[1:]


def print_json(value: object) -> None:
    """Machine output of every command with ``--json``: one JSON value on stdout, or for the function that runs it."""
    printed = _printed.get()
    if printed is not None:
        printed.append(value)
        return
    answer_text(json.dumps(value, indent=2, allow_nan=False))


if __name__ == "__main__":
    sys.exit(main())
