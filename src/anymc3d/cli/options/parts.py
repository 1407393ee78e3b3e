"""``--part K/N``, ``--backend`` and ``--jobs``: one meaning for every command that takes a cohort."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anymc3d.cli.options.parquet import write_parquet
from anymc3d.errors import UsageError

if TYPE_CHECKING:
    from anymc3d.data.case import Case
    from anymc3d.data.pseudonyms import Pseudonyms
    from anymc3d.engines.work import EngineOptions, Outcome, Work
    from anymc3d.files.parts import Part


OF_A_TABLE = "only the K-th of N parts, below OUT/parts; 'anymc3d merge OUT' joins them"


def add_part(parser: argparse.ArgumentParser, what: str = OF_A_TABLE) -> None:
    """Add the options that split a cohort; ``what``: a part is."""
    parser.add_argument("--part", metavar="K/N", help=what)
    add_engine(parser)


def add_engine(parser: argparse.ArgumentParser) -> None:
    """Add where jobs run."""
    parser.add_argument("--backend", default="local", metavar="NAME", help="local, slurm or ray (default: local)")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="jobs at once (default: 1)")
    parser.add_argument(
        "--scheduler",
        action="append",
        default=[],
        metavar="key=value",
        help="for slurm or ray, by its own names: timeout_min=120, slurm_partition=gpu; can be repeated",
    )


def chosen_part(args: argparse.Namespace) -> Part | None:
    """The part that was asked for.

    Raises:
        UsageError: it is not K/N, or an engine was asked to split the cohort as well.
    """
    from anymc3d.files.parts import parse_part

    if args.part is None:
        return None
    if is_split(args):
        raise UsageError("--part: an engine (--backend, --jobs) makes the parts itself; leave one of them out")
    return parse_part(args.part)


def folder_of(args: argparse.Namespace) -> Path:
    """Where this command writes: OUT, or its part's folder."""
    part = chosen_part(args)
    return args.out if part is None else part.folder(args.out)


def names_of(cases: Sequence[Case], pseudonyms: Pseudonyms | None) -> list[str]:
    """What the cases are called in what is written."""
    return [case.id if pseudonyms is None else pseudonyms.case(case.id) for case in cases]


def is_split(args: argparse.Namespace) -> bool:
    """Whether an engine is asked for."""
    return args.backend != "local" or args.jobs != 1


def engine_options(args: argparse.Namespace) -> EngineOptions:
    """What the engine is given.

    Raises:
        UsageError: ``--jobs`` or ``--scheduler`` is not what it should be.
    """
    from anymc3d.engines.work import EngineOptions

    if args.jobs < 1:
        raise UsageError(f"--jobs: expected 1 or more, got {args.jobs}")
    return EngineOptions(jobs=args.jobs, folder=args.out, parameters=scheduler_parameters(args.scheduler))


def scheduler_parameters(texts: Sequence[str]) -> dict[str, Any]:
    """``key=value`` with values as YAML reads them."""
    from anymc3d.settings.strict_yaml import load_yaml

    parameters = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise UsageError(f"--scheduler: expected key=value, got {text!r}")
        parameters[key] = load_yaml(value)
    return parameters


def run_split(args: argparse.Namespace) -> int:
    """The cohort as ``--jobs`` parts through the engine, then joined; the exit code of the whole.

    Every part is this very command with ``--part``, so that any of them can be called again by hand.
    """
    from dataclasses import replace

    from anymc3d.cli.merge import print_merged
    from anymc3d.engines.table import chosen_engine
    from anymc3d.errors import RunFolderError
    from anymc3d.files.parts import Part
    from anymc3d.files.private import make_private
    from anymc3d.parts.merge import merge_parts
    from anymc3d.parts.watch import watched

    engine, options = chosen_engine(args.backend), replace(engine_options(args), retries=2)
    make_private(args.out)
    parts = [Part(args.jobs, number) for number in range(1, args.jobs + 1)]
    with watched(args.out, parts, quiet=args.quiet):
        failed = [outcome for outcome in engine(_work_of(args, parts), options) if outcome.state == "failed"]
    if failed:
        reasons = "; ".join(f"{outcome.job}: {outcome.message}" for outcome in failed[:5])
        raise RunFolderError(
            f"{args.out}: {len(failed)} of {len(parts)} parts failed, the others are finished and kept: {reasons}; "
            "the same command runs what is missing"
        )
    merged = merge_parts(args.out, len(parts))
    if getattr(args, "parquet", False):
        write_parquet(args.out)
    print_merged(args.out, merged, as_json=args.json, quiet=args.quiet)
    return merged.exit_code


def _work_of(args: argparse.Namespace, parts: Sequence[Part]) -> list[Work]:
    """Each part as a piece of work for an engine."""
    from anymc3d.engines.work import Work

    command, *words = without_engine(args.given)
    if args.backend == "local" and args.workers is None:
        words += ["--workers", "0"]  # the parts have the machine's cores already
    return [
        Work(
            name=f"part {part}",
            call=partial(run_part, [command, *words, "--part", str(part), "--quiet"], f"part {part}"),
            recorded=partial(_recorded_part, args.out, part),
        )
        for part in parts
    ]


def run_part(words: Sequence[str], name: str) -> Outcome:
    """One part, in whatever process an engine chose."""
    from anymc3d.cli.main import INTERRUPTED, ended
    from anymc3d.cli.say import fail
    from anymc3d.engines.work import Outcome
    from anymc3d.errors import InterruptedRunError

    code, why = ended(words)
    if why:
        fail(why)
    if code == INTERRUPTED:
        raise InterruptedRunError(f"{name} was stopped; the same command continues")
    if code in (0, 3, 4):
        return Outcome(name, "done", exit_code=code)
    message = " ".join(why.removeprefix("error: ").split()) or f"it ended with exit code {code}"
    return Outcome(name, "failed", message, code)


def _recorded_part(out: Path, part: Part) -> Outcome:
    from anymc3d.engines.work import Outcome
    from anymc3d.files.parts import part_record

    is_done = part_record(part.folder(out)) is not None
    return Outcome(f"part {part}", "done" if is_done else "waiting")


_OF_THE_WHOLE = ("--json", "--quiet", "--parquet")


def without_engine(words: Sequence[str]) -> list[str]:
    """The words of a command without ``--backend``, ``--jobs``, ``--scheduler`` and what is of the whole."""
    remaining, skip = [], False
    for word in words:
        if skip:
            skip = False
        elif word in ("--backend", "--jobs", "--scheduler"):
            skip = True
        elif not word.startswith(("--backend=", "--jobs=", "--scheduler=")) and word not in _OF_THE_WHOLE:
            remaining.append(word)
    return remaining
