"""Table 8: one threshold for disease of any grade, read grade by grade; printed are lines of any grade against none."""

from __future__ import annotations

from anymc3d.benchmark import paper_numbers
from anymc3d.benchmark.results import AVERAGED, SD
from anymc3d.benchmark.tables.grid import EMPTY, Grid
from anymc3d.benchmark.tables.rows import Results, Row, number, shown

_FIGURES = ("accuracy", "sensitivity", "specificity")
COLUMNS = ("task", "method", "seed", "grades", "threshold of", "positive / negative", "AUROC", *_FIGURES)


def severity(results: Results) -> Grid:
    """A line per task, method, seed, comparison of grades and operating point."""
    graded = [row for row in results.rows if " vs " in row["group"] and row["seed"] not in (SD, AVERAGED)]
    rows = [_line(results, row) for row in graded if row["metric"] == "sensitivity"]
    rows += [_printed(entry) for entry in paper_numbers.SEVERITY]
    notes = [
        "a threshold of youden@test is chosen on the test cases themselves, as the printed ones seem to be: optimistic",
        paper_numbers.SEVERITY_NOTE,
    ]
    if not graded:
        notes.append("no task of this benchmark names a grade column; see 'severity' in the benchmark file")
    return Grid(title="Severity (Table 8)", columns=COLUMNS, rows=rows, notes=notes, names=5)


def _line(results: Results, row: Row) -> list[str]:
    place = ("task", "method", "seed", "train_cases", "label", "group", "split")
    same = [other for other in results.rows if all(other[name] == row[name] for name in place)]
    of_point = {other["metric"]: other for other in same if other["operating_point"] == row["operating_point"]}
    auroc = next((other for other in same if other["metric"] == "auroc"), None)
    return [
        row["task"],
        row["method"],
        row["seed"],
        row["group"],
        row["operating_point"],
        _counts(auroc),
        shown(number(auroc["value"]) if auroc else None),
        *(shown(number(of_point[name]["value"]) if name in of_point else None) for name in _FIGURES),
    ]


def _counts(row: Row | None) -> str:
    if row is None or not row["n_positive"]:
        return EMPTY
    return f"{row['n_positive']} / {int(row['n']) - int(row['n_positive'])}"


def _printed(entry: paper_numbers.Severity) -> list[str]:
    figures = (entry.auroc, entry.accuracy, entry.sensitivity, entry.specificity)
    name = f"{entry.task} {entry.organ}" + ("" if entry.grades == paper_numbers.ANY_GRADE else ", one grade")
    where = [name, "printed: AnyMC3D", EMPTY, entry.grades, EMPTY]
    return [*where, f"{entry.positive} / {entry.negative}", *(shown(value, 4) for value in figures)]
