"""The parser of every command: usage errors in one line that names all that is missing and the nearest known word."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

from anymc3d.errors import OptionError, did_you_mean

QUIET = "print warnings, errors and what was asked for (a list, --json), nothing of what is done"
VERBOSE = "also print what is done in detail"
DEBUG = "show the traceback of an internal error, and what libraries log"

Hint = Callable[[str], str | None]
"""A word that was not understood -> what to write instead, where that is known."""


class Formatter(argparse.RawDescriptionHelpFormatter):
    """Help that says every default in one way and keeps the lines of examples."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30, width=min(shutil.get_terminal_size().columns, 110))

    def _get_help_string(self, action: argparse.Action) -> str | None:
        text = action.help or ""
        shown = action.default not in (None, False, [], argparse.SUPPRESS) and action.option_strings
        return f"{text} (default: %(default)s)".strip() if shown and "default" not in text else text


class Parser(argparse.ArgumentParser):
    """``hint``: what a command knows of words that it does not take, such as settings of its task file."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("formatter_class", Formatter)
        super().__init__(*args, **kwargs)
        self.hint: Hint = lambda _: None

    def error(self, message: str) -> NoReturn:
        """One line, exit code 2."""
        raise OptionError(f"{self.prog}: {message}; see '{self.prog} --help'")

    def read(self, words: Sequence[str]) -> argparse.Namespace:
        """Parse the words of a command; behind an action, or where there are none, options may stand anywhere."""
        actions = self.actions()
        if actions:
            return self._read_action(actions, list(words))
        for action in self._actions:
            if action.nargs == argparse.ZERO_OR_MORE and not action.option_strings:
                action.required = False
        if {"-h", "--help"} & set(words):
            self.print_help()
            self.exit()
        missing = self._missing(words)
        if missing:
            self.error(f"missing: {', '.join(missing)}")
        parsed, unknown = self.parse_known_intermixed_args(words)
        if unknown:
            self.error(self._unknown(unknown))
        return parsed

    def actions(self) -> dict[str, Parser]:
        """Name -> parser of each action; empty where the command has none."""
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                return dict(action.choices)
        return {}

    def _read_action(self, actions: dict[str, Parser], words: list[str]) -> argparse.Namespace:
        place = next((i for i, word in enumerate(words) if not word.startswith("-")), None)
        if place is None:
            if {"-h", "--help"} & set(words):
                self.print_help()
                self.exit()
            self.error(f"missing: one of {', '.join(actions)}")
        name = words.pop(place)
        if name not in actions:
            self.error(f"unknown action {name!r}{did_you_mean(name, actions)}")
        parsed = actions[name].read(words)
        parsed.action = name
        return parsed

    def _missing(self, words: Sequence[str]) -> list[str]:
        """The names of all that is required and not there; argparse itself names positional words only when no option
        is missing."""
        wanted = [action for action in self._actions if action.required]
        before = [(action, action.required, action.nargs) for action in wanted]
        try:
            for action in wanted:
                action.required = False
                if not action.option_strings:
                    action.nargs = "*" if action.nargs == "+" else "?" if action.nargs is None else action.nargs
            parsed, _ = self.parse_known_intermixed_args(words)
        finally:
            for action, required, nargs in before:
                action.required, action.nargs = required, nargs
        return [name_of(action) for action in wanted if getattr(parsed, action.dest, None) in (None, [])]

    def _unknown(self, words: Sequence[str]) -> str:
        first = next((word for word in words if word.startswith("-")), words[0])
        name = first.partition("=")[0]
        hint = self.hint(name)
        if hint is not None:
            return f"{name}: {hint}"
        if not first.startswith("-"):
            return f"unexpected {first!r}"
        options = [text for action in self._actions for text in action.option_strings if text.startswith("--")]
        return f"unknown option {name!r}{did_you_mean(name, options)}"

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            raise argparse.ArgumentError(
                action, f"expected one of {', '.join(map(str, action.choices))}; got {value!r}{_nearest(value, action)}"
            )


def name_of(action: argparse.Action) -> str:
    """How a message calls an argument."""
    if action.option_strings:
        return "/".join(action.option_strings)
    return str(action.metavar or action.dest)


def add_common(parser: Parser) -> None:
    """Give a command, or every action of one, the options that all have, with one meaning."""
    for leaf in parser.actions().values() or [parser]:
        options = {text: action for action in leaf._actions for text in action.option_strings}
        if "--quiet" in options:
            options["--quiet"].help = QUIET
        else:
            leaf.add_argument("--quiet", action="store_true", help=QUIET)
        leaf.add_argument("-v", "--verbose", action="store_true", help=VERBOSE)
        leaf.add_argument("--debug", action="store_true", help=DEBUG)


def examples_text(examples: Iterable[str]) -> str:
    """The end of a help page."""
    return "\n".join(["examples:", *(f"  {line}" for line in examples)])


def _nearest(value: Any, action: argparse.Action) -> str:
    text = did_you_mean(str(value), [str(choice) for choice in action.choices or ()])
    return text if "did you mean" in text else ""
