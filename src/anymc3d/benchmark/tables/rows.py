"""Looking things up in the long table of results."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from anymc3d.benchmark.cost import COST_COLUMNS
from anymc3d.benchmark.results import AVERAGED, COLUMNS, MEAN, RESULTS, SD, WAITING
from anymc3d.benchmark.tables.grid import EMPTY
from anymc3d.errors import UsageError
from anymc3d.files.tables import read_table

Row = Mapping[str, str]
MACRO = "macro"
_COUNTS = ("train_cases",)
_NUMBERS = (
    *("value", "ci_low", "ci_high", "n", "n_positive"),
    *("trainable_parameters", "total_parameters", "train_seconds", "train_seconds_per_volume"),
    *("predict_seconds_per_volume", "peak_memory_bytes", "memory_per_volume_bytes", "energy_joules"),
)


@dataclass(frozen=True)
class Entry:
    """A method on a task: the row of its headline AUROC, and how many seeds are behind it."""

    task: str
    method: str
    train_cases: int
    row: Row
    sd: float | None = None

    @property
    def value(self) -> float | None:
        return number(self.row["value"])


@dataclass(frozen=True)
class Results:
    """The rows of ``results.csv``, and of ``datasets.csv`` where it lies beside."""

    rows: Sequence[Row]
    data_sets: Sequence[Row] = ()

    @property
    def tasks(self) -> list[str]:
        return list(dict.fromkeys(row["task"] for row in self.rows))

    @property
    def methods(self) -> list[str]:
        return list(dict.fromkeys(row["method"] for row in self.rows))

    @property
    def reference(self) -> str:
        """The method that others were paired with; empty where nothing was paired."""
        return next((row["reference"] for row in self.rows if row["reference"]), "")

    def sizes(self, task: str) -> list[int]:
        """The numbers of training cases that a task was run with, ascending."""
        run = (row for row in self.rows if row["task"] == task and row["metric"] != WAITING)
        return sorted({int(row["train_cases"]) for row in run})

    def headline(self, task: str, method: str, train_cases: int | None = None) -> Entry | None:
        """AUROC of the test cases over all labels: mean over seeds where there are several; None: not finished.

        ``train_cases``: None = the most that the task was run with.
        """
        sizes = self.sizes(task)
        wanted = train_cases if train_cases is not None else (sizes[-1] if sizes else None)
        figures = [
            row
            for row in self.rows
            if (row["task"], row["method"], row["metric"], row["group"]) == (task, method, "auroc", "all")
            and int(row["train_cases"]) == wanted
        ]
        figures = [row for row in figures if row["label"] == MACRO] or figures
        if len({row["label"] for row in figures}) > 1:
            return None
        by_seed = {row["seed"]: row for row in figures if row["seed"] != AVERAGED}
        if not by_seed:
            return None
        row = by_seed.get(MEAN) or next(iter(by_seed.values()))
        return Entry(
            task, method, int(row["train_cases"]), row, number(by_seed[SD]["value"]) if SD in by_seed else None
        )

    def describe(self, method: str) -> Row:
        """Columns of a method that are the same on every task (system, backbone, fusion), and its parameter counts."""
        rows = [row for row in self.rows if row["method"] == method]
        return next((row for row in rows if row["trainable_parameters"]), rows[0])

    def cost(self, method: str, key: str) -> float | None:
        """The mean of a cost over a method's jobs with the most training cases of each task; None: one has none."""
        jobs = {
            (row["task"], row["seed"]): row[key]
            for row in self.rows
            if row["method"] == method
            and row["trainable_parameters"]
            and row["seed"] not in (MEAN, SD, AVERAGED)
            and int(row["train_cases"]) == self.sizes(row["task"])[-1]
        }
        return mean(number(cell) for cell in jobs.values()) if jobs else None

    def where(self, test: Callable[[Row], bool]) -> list[str]:
        """The methods whose description passes ``test``, in the order of the plan."""
        return [method for method in self.methods if test(self.describe(method))]


def read_results(folder: Path) -> Results:
    """The results of a benchmark's folder.

    Raises:
        UsageError: there are none yet, the table is another one, or a cell of a number is none.
    """
    path = folder / RESULTS
    if not path.is_file():
        raise UsageError(f"{path}: no such file; 'anymc3d benchmark bench.yaml -o {folder}' makes it")
    rows = [dict.fromkeys(COST_COLUMNS, "") | row for row in read_table(path)]  # an earlier version measured fewer
    missing = [column for column in COLUMNS if rows and column not in rows[0]]
    if missing or not rows:
        what = f"lacks the columns {', '.join(missing[:4])}" if missing else "is empty: no job has finished"
        raise UsageError(f"{path}: {what}")
    _check_numbers(path, rows)
    data_sets = folder / "datasets.csv"
    return Results(rows, read_table(data_sets) if data_sets.is_file() else ())


def _check_numbers(path: Path, rows: Sequence[Row]) -> None:
    """Refuse what a spreadsheet made of a number, before a table shows half of it."""
    for line, row in enumerate(rows, start=2):
        for column in _COUNTS:
            if not row[column].isdecimal():
                raise UsageError(f"{path}, line {line}: {column} {row[column]!r} is not a whole number")
        for column in _NUMBERS:
            if row[column] != "" and not _is_finite(row[column]):
                raise UsageError(f"{path}, line {line}: {column} {row[column]!r} is not a number")


def _is_finite(cell: str) -> bool:
    try:
        return math.isfinite(float(cell))
    except ValueError:
        return False


def number(cell: str) -> float | None:
    """A cell as a number; empty is None."""
    return float(cell) if cell != "" else None


def shown(value: float | None, digits: int = 3) -> str:
    """A number, or ``-``."""
    return EMPTY if value is None else f"{value:.{digits}f}"


def shown_entry(entry: Entry | None) -> str:
    """``0.912 (0.864 to 0.944)``, over seeds ``0.912 ± 0.005``, or ``-``."""
    if entry is None or entry.value is None:
        return EMPTY
    low, high = number(entry.row["ci_low"]), number(entry.row["ci_high"])
    if entry.sd is not None:
        return f"{entry.value:.3f} ± {entry.sd:.3f}"
    return shown(entry.value) if low is None or high is None else f"{entry.value:.3f} ({low:.3f} to {high:.3f})"


def millions(cell: str | int) -> str:
    """A count of parameters in millions, as the paper prints it."""
    if cell == "":
        return EMPTY
    value = float(cell) / 1e6
    return f"{value:.3f} M" if 0 < value < 0.1 else f"{value:.2f} M"


def mean(values: Iterable[float | None]) -> float | None:
    """The mean of all; None where one is missing, because a mean of others is of other tasks."""
    all_values = list(values)
    known = [value for value in all_values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(all_values) else None
