"""The main table: every method on every task, average and average rank, cost, and the test against the reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from anymc3d.benchmark.paper_numbers import AVERAGES, OTHERS
from anymc3d.benchmark.results import AVERAGED, MEAN
from anymc3d.benchmark.tables.grid import EMPTY, Grid
from anymc3d.benchmark.tables.rows import MACRO, Results, mean, millions, number, shown, shown_entry

GIGA = 1e9


class Cost(NamedTuple):
    """A column of the results, what its numbers are divided by, and their digits."""

    key: str
    unit: float = 1.0
    digits: int = 2


COSTS: dict[str, Cost] = {
    "training s / volume": Cost("train_seconds_per_volume"),
    "prediction s / volume": Cost("predict_seconds_per_volume"),
    "training memory GB": Cost("peak_memory_bytes", GIGA),
    "GB / volume": Cost("memory_per_volume_bytes", GIGA),
    "training kJ": Cost("energy_joules", 1e3, 1),
}
"""Means over the jobs of a method."""
OPTIONAL = ("training kJ",)
"""Columns that most devices cannot fill; they are there when one cell is."""


def main_table(results: Results) -> Grid:
    """One row per method: AUROC per task, their mean, the mean rank, cost; then the paper's averages."""
    tasks, methods = results.tasks, results.methods
    values = {task: [_value(results, task, method) for method in methods] for task in tasks}
    ranks = {task: rank(values[task]) for task in tasks}
    columns = ["method", *tasks, *(["mean AUROC", "mean rank"] if len(tasks) > 1 else ["rank"])]
    columns += [*(f"{task}: minus {results.reference} (p, Holm)" for task in tasks if results.reference)]
    costs = {name: cost for name, cost in COSTS.items() if name not in OPTIONAL or _is_known(results, cost.key)}
    columns += ["trainable", "total", *costs]
    rows = []
    for index, method in enumerate(methods):
        aurocs = [values[task][index] for task in tasks]
        summary = [shown(mean(aurocs))] if len(tasks) > 1 else []
        summary.append(shown(mean(ranks[task][index] for task in tasks), 1))
        pairs = [_difference(results, task, method) for task in tasks if results.reference]
        counts = results.describe(method)
        rows.append(
            [
                method,
                *(shown_entry(results.headline(task, method)) for task in tasks),
                *summary,
                *pairs,
                *(millions(counts[f"{kind}_parameters"]) for kind in ("trainable", "total")),
                *(_mean_cost(results, method, cost) for cost in costs.values()),
            ]
        )
    printed = [_printed_row(columns, name, text) for name, text in _averages() if len(tasks) > 1]
    return Grid(title="Test AUROC", columns=columns, rows=[*rows, *printed], notes=_notes(results))


def rank(values: Sequence[float | None]) -> list[float | None]:
    """1 for the largest; equal values share the mean of their places, and what was not run has no rank."""
    known = [value for value in values if value is not None]
    return [
        None if value is None else sum(v > value for v in known) + (sum(v == value for v in known) + 1) / 2
        for value in values
    ]


def _is_known(results: Results, key: str) -> bool:
    return any(results.cost(method, key) is not None for method in results.methods)


def _mean_cost(results: Results, method: str, cost: Cost) -> str:
    value = results.cost(method, cost.key)
    return shown(None if value is None else value / cost.unit, cost.digits)


def _value(results: Results, task: str, method: str) -> float | None:
    entry = results.headline(task, method)
    return None if entry is None else entry.value


def _difference(results: Results, task: str, method: str) -> str:
    """``-0.025 (p = 0.09)`` with Holm's p-value, on scores averaged over seeds where there are several."""
    if method == results.reference:
        return EMPTY
    sizes = results.sizes(task)
    difference_rows = [
        row
        for row in results.rows
        if row["task"] == task and row["method"] == method and row["reference"] and int(row["train_cases"]) == sizes[-1]
    ]
    seeds = [row["seed"] for row in difference_rows]
    seed = AVERAGED if AVERAGED in seeds else (seeds[0] if seeds else "")
    by_metric = {row["metric"]: row for row in difference_rows if row["seed"] == seed and row["label"] != MACRO}
    if len({row["label"] for row in difference_rows}) != 1 or "auroc_difference" not in by_metric:
        return EMPTY
    difference = number(by_metric["auroc_difference"]["value"])
    p_value = number(by_metric["auroc_difference_p_holm"]["value"])
    if difference is None:
        return EMPTY
    return f"{difference:+.3f}" + (f" ({shown_p(p_value)})" if p_value is not None else "")


def shown_p(value: float) -> str:
    """``p = 0.04``, ``p < 0.001``."""
    return "p < 0.001" if value < 0.001 else f"p = {value:.2g}" if value < 0.995 else "p = 1"


def _averages() -> list[tuple[str, str]]:
    return [(f"printed: {entry.system}", entry.text) for entry in AVERAGES]


def _printed_row(columns: Sequence[str], name: str, text: str) -> list[str]:
    at = columns.index("mean AUROC")
    ranks = {entry.system: entry.rank for entry in AVERAGES}
    row = [EMPTY] * len(columns)
    row[0], row[at], row[at + 1] = name, text, ranks[name.removeprefix("printed: ")] or EMPTY
    return row


def _notes(results: Results) -> list[str]:
    seeds = {row["seed"] for row in results.rows}
    notes = ["brackets are 95 % intervals (DeLong); a dash was not run or is not printed"]
    if MEAN in seeds:
        notes = ["mean ± standard deviation over seeds; a dash was not run or is not printed"]
        notes.append("differences and p-values are of the scores (log-odds) averaged over seeds")
    for task in results.tasks:
        cases = {
            row["n"]: row["n_positive"] for row in results.rows if row["task"] == task and row["metric"] == "auroc"
        }
        size = results.sizes(task)[-1]
        counts = ", ".join(f"{n} test cases ({p} positive)" if p else f"{n} test cases" for n, p in cases.items() if n)
        notes.append(f"{task}: {size} training cases, {counts}")
    notes += [
        f"{row['method']} on {row['task']}, seed {row['seed']}: failed: {row['reason']}"
        for row in results.rows
        if row["metric"] == "failed"
    ]
    if len(results.tasks) > 1:
        notes.append("printed averages are of ten other tasks (T1 to T10); they stand here for orientation")
    singles = ", ".join(f"{entry.system} on {entry.task} {entry.text}" for entry in OTHERS)
    notes.append(f"printed of single tasks: {singles}")
    return notes
