"""AUROC over the number of training cases: every method on the same, nested subsets."""

from __future__ import annotations

from anymc3d.benchmark import paper_numbers
from anymc3d.benchmark.tables.grid import EMPTY, Grid
from anymc3d.benchmark.tables.rows import Results, shown_entry


def label_efficiency(results: Results) -> Grid:
    """A line per task and method, a column per number of training cases; printed lines by share."""
    sizes = sorted({size for task in results.tasks for size in results.sizes(task)})
    shares = sorted({entry.share for entry in paper_numbers.LABEL_EFFICIENCY})
    columns = ["task", "method", *(f"{size} cases" for size in sizes), *(f"printed {share:.0%}" for share in shares)]
    rows = [
        [
            task,
            method,
            *(shown_entry(results.headline(task, method, size)) for size in sizes),
            *([EMPTY] * len(shares)),
        ]
        for task in results.tasks
        for method in results.methods
    ]
    systems = dict.fromkeys((entry.task, entry.system) for entry in paper_numbers.LABEL_EFFICIENCY)
    rows += [
        [task, f"printed: {system}", *([EMPTY] * len(sizes)), *(_at(task, system, share) for share in shares)]
        for task, system in systems
    ]
    notes = ["smaller subsets lie within larger ones, and are the same for all methods"]
    notes += [
        f"{entry.system}, {entry.share:.0%} of {entry.task}: {entry.source}" for entry in paper_numbers.LABEL_EFFICIENCY
    ]
    return Grid(title="Label efficiency", columns=columns, rows=rows, notes=notes, names=2)


def _at(task: str, system: str, share: float) -> str:
    entries = [
        entry
        for entry in paper_numbers.LABEL_EFFICIENCY
        if (entry.task, entry.system, entry.share) == (task, system, share)
    ]
    return entries[0].text if entries else EMPTY
