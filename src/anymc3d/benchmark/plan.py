"""The benchmark file: which methods on which tasks with which seeds; YAML of one screen, checked before anything runs.

A method is a set of overrides of the task file, in the dotted form of ``anymc3d train … key=value``, so a fusion, a
backbone, a rank and a network of the zoo are all methods. Paths in the file are relative to the file.
"""

from __future__ import annotations

import itertools
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anymc3d.errors import AnyMC3DError, ProblemsError, UsageError, did_you_mean
from anymc3d.settings.config import TaskSettings
from anymc3d.settings.limits import require
from anymc3d.settings.plain import from_plain
from anymc3d.settings.strict_yaml import load_yaml
from anymc3d.settings.task_file import is_path, read_task
from anymc3d.train.task_checks import check_task

FORMAT_VERSION = 1
ALL = "all"
MAX_TRIALS = 64
"""Trials of one method: a larger grid is a mistake more often than a wish."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]*")
_SAME_FOR_ALL = ("labels", "data", "name", "format")
"""Keys that no method may change: its results would be of another question than those of the others."""
_FILES = ("backbone", "backbone.name", "method.weights")
"""Keys that may name a file or folder."""


@dataclass(frozen=True, kw_only=True)
class BenchmarkSettings:
    """The benchmark file as it stands."""

    name: str
    tasks: Mapping[str, str]
    """Name -> task file."""
    methods: Mapping[str, Mapping[str, Any]]
    """Name -> overrides of the task file, by dotted key."""
    reference: str
    """The method that all others are paired with."""
    seeds: tuple[int, ...] = (0,)
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Overrides for every method, before its own."""
    train_cases: tuple[Any, ...] = (ALL,)
    """Training cases each method gets: numbers, shares of them (0.2), or ``all``."""
    test_cases: Any = ALL
    subset_seed: int = 0
    """Seed of the choice of training and test cases; the same for all methods and seeds."""
    search: Mapping[str, Mapping[str, tuple[Any, ...]]] = field(default_factory=dict)
    """Method or ``all`` -> dotted key -> values: a grid, of which validation chooses."""
    severity: Mapping[str, str] = field(default_factory=dict)
    """Task -> grade column, for results by grade."""
    format: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        require(self.format == FORMAT_VERSION, f"format: this version reads {FORMAT_VERSION}, got {self.format}")
        require(len(self.tasks) > 0, "tasks: expected at least one, got none")
        require(len(self.methods) > 0, "methods: expected at least one, got none")
        require(len(self.seeds) > 0, "seeds: expected at least one, got none")
        require(len(set(self.seeds)) == len(self.seeds), f"seeds: one appears twice in {list(self.seeds)}")
        require(min(self.seeds) >= 0, f"seeds: expected 0 or more, got {min(self.seeds)}")
        require(len(self.train_cases) > 0, "train_cases: expected numbers, shares or all, got none")


@dataclass(frozen=True)
class Trial:
    """One point of a method's grid (or its only one): what was chosen beside the method, and the whole task."""

    choice: Mapping[str, Any]
    task: TaskSettings


@dataclass(frozen=True)
class Plan:
    """A checked benchmark file: for every task and method the trials, with the seed of the task file."""

    settings: BenchmarkSettings
    source: Path
    trials: Mapping[tuple[str, str], tuple[Trial, ...]]

    def first(self, task: str) -> TaskSettings:
        """The settings of a task under the reference; labels and data are those of every method."""
        return self.trials[task, self.settings.reference][0].task


def read_plan(path: Path | str, overrides: Sequence[str] = ()) -> Plan:
    """Read a benchmark file and build the settings of every method on every task.

    ``overrides``: ``key=value`` for every task and method, as for ``anymc3d train``; paths in them are relative to the
    current folder.

    Raises:
        ProblemsError: with every fault of the file, its tasks and its methods; unknown names with the nearest one.
    """
    path = Path(path)
    problems: list[str] = []
    settings = from_plain(BenchmarkSettings, _read(path), problems)
    if not problems:
        problems += _faults(settings)
        seeds_set = [text for text in overrides if text.partition("=")[0].strip() == "train.seed"]
        problems += [f"{text}: train.seed comes from seeds; set those in the file" for text in seeds_set]
    trials = {} if problems else dict(_all_trials(settings, path.absolute().parent, overrides, problems))
    if problems:
        raise ProblemsError(str(path), list(dict.fromkeys(problems)))
    return Plan(settings, path, trials)


def _read(path: Path) -> Any:
    if not path.is_file():
        raise UsageError(f"{path}: no such file; docs/benchmark.md shows one to start from")
    try:
        plain = load_yaml(path.read_bytes().decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ProblemsError(str(path), [f"not UTF-8 text (byte {error.start})"]) from error
    except UsageError as error:
        raise ProblemsError(str(path), [str(error)]) from error
    return _normal(plain) if isinstance(plain, dict) else plain


def _normal(plain: dict) -> dict:
    """``query:`` alone is a method without overrides; one number stands for a list of one."""
    methods, cases = plain.get("methods"), plain.get("train_cases")
    if isinstance(methods, dict):
        plain = plain | {"methods": {name: {} if value is None else value for name, value in methods.items()}}
    if "train_cases" in plain and not isinstance(cases, list):
        plain = plain | {"train_cases": [cases]}
    return plain


def _faults(settings: BenchmarkSettings) -> list[str]:
    """What is wrong with the file itself, before any task file is opened."""
    faults = []
    for what, names in (("tasks", settings.tasks), ("methods", settings.methods)):
        bad = [name for name in names if not _NAME.fullmatch(name) or name == ALL]
        faults += [f"{what}.{name}: a name is letters, digits, '-', '+' and '.', and not '{ALL}'" for name in bad]
        folded = [name.lower() for name in names]
        faults += [f"{what}: two names differ in capitals only: {name}" for name in {*folded} if folded.count(name) > 1]
    if settings.reference not in settings.methods:
        hint = did_you_mean(settings.reference, settings.methods)
        faults.append(f"reference: no method {settings.reference!r}{hint}")
    for key in ("train_cases", "test_cases"):
        values = settings.train_cases if key == "train_cases" else (settings.test_cases,)
        faults += [f"{key}: {fault}" for fault in map(_case_fault, values) if fault]
    for name in settings.search:
        if name not in settings.methods and name != ALL:
            faults.append(f"search.{name}: no such method{did_you_mean(name, [*settings.methods, ALL])}")
    for name in settings.severity:
        if name not in settings.tasks:
            faults.append(f"severity.{name}: no such task{did_you_mean(name, settings.tasks)}")
    return faults + list(_key_faults(settings)) + _budget_faults(settings)


def _case_fault(value: Any) -> str:
    if value == ALL or (type(value) is int and value >= 1) or (type(value) is float and 0 < value <= 1):
        return ""
    return f"expected a number of cases, a share above 0 to 1 (0.2), or {ALL}; got {value!r}"


def _key_faults(settings: BenchmarkSettings) -> Iterator[str]:
    places = [(f"methods.{name}", values) for name, values in settings.methods.items()]
    places += [(f"search.{name}", values) for name, values in settings.search.items()]
    for place, values in [*places, ("settings", settings.settings)]:
        for key, value in values.items():
            if key.split(".")[0] in _SAME_FOR_ALL and place != "settings":
                yield f"{place}: {key} must be the same for all methods; set it in the task file"
            if key == "train.seed" or (key == "train" and isinstance(value, Mapping) and "seed" in value):
                yield f"{place}: train.seed comes from seeds"
    for name, grid in settings.search.items():
        for key, values in grid.items():
            if not values or len({json.dumps(value) for value in values}) < len(values):
                yield f"search.{name}.{key}: expected different values, got {list(values)}"


def _grid(settings: BenchmarkSettings, method: str) -> list[dict[str, Any]]:
    """The points of a method's grid: its own, or that of ``all`` for the keys that the method does not set itself."""
    search = settings.search.get(method, settings.search.get(ALL, {}))
    grid = (
        search if method in settings.search else {k: v for k, v in search.items() if k not in settings.methods[method]}
    )
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def _budget_faults(settings: BenchmarkSettings) -> list[str]:
    """Methods that are searched are searched equally long."""
    sizes = {method: len(_grid(settings, method)) for method in settings.methods}
    searched = {method: size for method, size in sizes.items() if size > 1}
    if len(set(searched.values())) > 1:
        budgets = ", ".join(f"{method} {size}" for method, size in searched.items())
        return [f"search: an equal budget for all, but the numbers of trials are {budgets}"]
    return [f"search: {size} trials of {m}, at most {MAX_TRIALS}" for m, size in searched.items() if size > MAX_TRIALS]


def _all_trials(
    settings: BenchmarkSettings, base: Path, overrides: Sequence[str], problems: list[str]
) -> Iterator[tuple[tuple[str, str], tuple[Trial, ...]]]:
    common = [*_as_overrides(settings.settings, base), *overrides]
    for task_name, file in settings.tasks.items():
        path = Path(os.path.normpath(base / os.path.expanduser(file)))
        if _built(path, common, f"tasks.{task_name}", problems) is None:
            continue
        for method, choices in settings.methods.items():
            trials = []
            for choice in _grid(settings, method):
                # What a user says on the command line is for all methods, but a method's own choice stays its own.
                texts = [*common, *_as_overrides(choices, base), *_as_overrides(choice, base)]
                place = f"methods.{method}" + (f" with {choice}" if choice else "")
                task = _built(path, texts, place, problems, check=True)
                if task is not None:
                    trials.append(Trial(choice, task))
            yield (task_name, method), tuple(trials)


def _built(
    path: Path, overrides: Sequence[str], place: str, problems: list[str], *, check: bool = False
) -> TaskSettings | None:
    try:
        task = read_task(path, overrides)
        if check:
            check_task(task)
        return task
    except ProblemsError as error:
        problems += [f"{place}: {problem}" for problem in error.problems]
    except AnyMC3DError as error:
        problems.append(f"{place}: {error}")
    return None


def _as_overrides(values: Mapping[str, Any], base: Path) -> list[str]:
    """``key=value`` texts; JSON is the YAML that says the same."""
    return [f"{key}={json.dumps(_located(key, value, base), ensure_ascii=False)}" for key, value in values.items()]


def _located(key: str, value: Any, base: Path) -> Any:
    """A value whose paths are no longer relative to the file; in sections (``backbone: {name: …}``) too."""
    if isinstance(value, Mapping):
        return {name: _located(f"{key}.{name}", inner, base) for name, inner in value.items()}
    is_file = isinstance(value, str) and (key == "data.manifest" or (key in _FILES and is_path(value)))
    return os.path.normpath(base / os.path.expanduser(value)) if is_file else value
