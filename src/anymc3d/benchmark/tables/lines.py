"""Tables whose lines are variants of one choice: own results per task, and the paper's beside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from anymc3d.benchmark.paper_numbers import Figure
from anymc3d.benchmark.tables.grid import EMPTY, Grid
from anymc3d.benchmark.tables.rows import Results, Row, millions, shown_entry


@dataclass(frozen=True)
class Variant:
    """One line: ``names`` in the first columns, the own ``method`` (None: not run), what is printed of it."""

    names: Sequence[str]
    method: str | None
    printed: Sequence[Figure] = ()


def pair_up(
    results: Results,
    printed: Sequence[Figure],
    *,
    chosen: Callable[[Row], bool],
    key: Callable[[Row], tuple[str, ...]],
    printed_key: Callable[[Figure], tuple[str, ...]],
    names: Callable[[tuple[str, ...]], Sequence[str]],
) -> list[Variant]:
    """A line per printed variant in the printed order, with the own methods of that variant; then the own others."""
    methods_of: dict[tuple[str, ...], list[str]] = {}
    for method in results.where(chosen):
        methods_of.setdefault(key(results.describe(method)), []).append(method)
    by_key: dict[tuple[str, ...], list[Figure]] = {}
    for figure in printed:
        by_key.setdefault(printed_key(figure), []).append(figure)
    return [
        Variant(names(variant_key), method, by_key.get(variant_key, ()))
        for variant_key in dict.fromkeys([*by_key, *methods_of])
        for method in methods_of.get(variant_key, [None])
    ]


def variant_grid(
    results: Results,
    variants: Sequence[Variant],
    *,
    title: str,
    names: Sequence[str],
    printed_tasks: Sequence[str],
    notes: Sequence[str],
) -> Grid:
    """Columns: names, method, trainable (own and printed), AUROC per own task, printed AUROC per task of the paper."""
    tasks = results.tasks
    columns = [*names, "method", "trainable", "printed", *tasks, *(f"printed {task}" for task in printed_tasks)]
    rows = []
    for variant in variants:
        run = variant.method is not None
        rows.append(
            [
                *variant.names,
                variant.method or EMPTY,
                millions(results.describe(variant.method)["trainable_parameters"]) if variant.method else EMPTY,
                next((figure.parameters for figure in variant.printed if figure.parameters), EMPTY),
                *(
                    shown_entry(results.headline(task, variant.method)) if run and variant.method else EMPTY
                    for task in tasks
                ),
                *(_printed(variant.printed, task) for task in printed_tasks),
            ]
        )
    return Grid(title=title, columns=columns, rows=rows, notes=[*notes, DASH], names=len(names) + 1)


DASH = "a dash was not run or is not printed; printed numbers are of the paper's own data"


def _printed(figures: Sequence[Figure], task: str) -> str:
    return next((figure.text for figure in figures if figure.task == task and figure.values), EMPTY)
