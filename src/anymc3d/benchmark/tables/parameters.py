"""Figure 8 as a table: trainable parameters against AUROC."""

from __future__ import annotations

from dataclasses import dataclass

from anymc3d.benchmark import paper_numbers
from anymc3d.benchmark.tables.grid import EMPTY, Grid
from anymc3d.benchmark.tables.rows import Results, mean, millions, number, shown


@dataclass(frozen=True)
class Dot:
    """A system: millions of trainable parameters and AUROC, each None where not known."""

    name: str
    millions: float | None
    auroc: float | None
    is_printed: bool = False


def dots(results: Results) -> list[Dot]:
    """The own methods (mean AUROC over all tasks), then the printed systems."""
    all_dots = []
    for method in results.methods:
        entries = [results.headline(task, method) for task in results.tasks]
        count = number(results.describe(method)["trainable_parameters"])
        value = mean(None if entry is None else entry.value for entry in entries)
        all_dots.append(Dot(method, None if count is None else count / 1e6, value))
    averages = {entry.system: entry.values[0] for entry in paper_numbers.AVERAGES}
    return all_dots + [Dot(name, count, averages[name], is_printed=True) for name, count in paper_numbers.PARAMETERS]


def parameters(results: Results) -> Grid:
    """A line per system."""
    rows = [
        [
            f"printed: {dot.name}" if dot.is_printed else dot.name,
            EMPTY if dot.millions is None else millions(round(dot.millions * 1e6)),
            shown(dot.auroc),
        ]
        for dot in dots(results)
    ]
    what = "mean AUROC over " + ", ".join(results.tasks) if len(results.tasks) > 1 else f"AUROC of {results.tasks[0]}"
    notes = [
        f"own methods: {what}; printed: mean over ten tasks of the paper (T1 to T10)",
        "the 0.03 M printed for MedImageInsight, frozen, is explained by no reading of the text",
    ]
    return Grid(
        title="Parameters against AUROC (Figure 8)", columns=("system", "trainable", "AUROC"), rows=rows, notes=notes
    )
