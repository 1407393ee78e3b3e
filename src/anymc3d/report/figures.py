"""Rows of ``metrics.csv`` as tables for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from anymc3d.evaluate.study_rows import ALL
from anymc3d.page.document import paragraph, table

FREE = {
    "auroc": "AUROC",
    "average_precision": "Average precision",
    "brier": "Brier score",
    "expected_calibration_error": "Calibration error",
}
NUMBERS = {
    "mae": "Mean absolute error",
    "r2": "R²",
    "pearson": "Pearson",
    "spearman": "Spearman",
    "calibration_slope": "Calibration slope",
}
"""Metrics of labels that are numbers."""
DECIDED = {
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "ppv": "PPV",
    "npv": "NPV",
    "accuracy": "Accuracy",
}
"""Metrics on a page: without a threshold, and at an operating point. ``metrics.csv`` has all."""

_UPRIGHT = 3
_STAY = "\N{NO-BREAK SPACE}"
Row = Mapping[str, object]


def metric_tables(rows: Sequence[Row]) -> str:
    """Return the tables of all cases: results without a threshold, then by operating point; reasons below."""
    group_rows = [row for row in rows if row["group"] == ALL]
    parts = []
    numbers = _lines(group_rows, NUMBERS, ("label",))
    if numbers:
        parts.append(_table("Predicted and true numbers", ("label",), NUMBERS, numbers, group_rows))
    free = _lines(group_rows, FREE, ("label",))
    if free:
        parts.append(_table("Without a threshold", ("label",), FREE, free, group_rows))
    decided = _lines(group_rows, DECIDED, ("label", "operating_point"))
    if decided:
        parts.append(_table("At operating points", ("label", "operating_point"), DECIDED, decided, group_rows))
    failed = next((row for row in group_rows if row["metric"] == "failed_cases" and _number(row["value"])), None)
    if failed is not None:
        parts.append(paragraph(f"{text_of(failed['value'])} of {failed['n']} cases have no prediction."))
    reasons = _reasons(group_rows)
    if reasons:
        parts.append(paragraph("Without value or interval: " + "; ".join(reasons) + ".", "quiet"))
    return "\n".join(parts)


def subgroup_tables(rows: Sequence[Row]) -> str:
    """Return one table of all groups: AUROC, sensitivity and specificity; nothing where there are no groups."""
    others = [row for row in rows if row["group"] != ALL]
    metrics_shown = {"auroc": "AUROC", "sensitivity": "Sensitivity", "specificity": "Specificity"}
    keys = ("group", "label", "operating_point")
    lines: dict[tuple[str, ...], dict[str, Row]] = {}
    for row in others:
        if row["metric"] in ("sensitivity", "specificity"):
            lines.setdefault(_key(row, keys), {})[str(row["metric"])] = row
    for key, cells in lines.items():
        auroc_rows = [row for row in others if row["metric"] == "auroc" and _key(row, keys[:2]) == key[:2]]
        cells |= {"auroc": auroc_rows[0]} if auroc_rows else {}
    return _table("Subgroups", keys, metrics_shown, lines, others) if lines else ""


def cell_of(row: Row | None) -> str:
    """``0.912 (0.874 to 0.939)``, ``undefined``, or nothing where there is no such row."""
    if row is None:
        return ""
    value, low, high = (_number(row[name]) for name in ("value", "ci_low", "ci_high"))
    if value is None:
        return "undefined"
    return f"{value:.3f}" if low is None or high is None else f"{value:.3f} ({low:.3f}{_STAY}to{_STAY}{high:.3f})"


def text_of(value: object) -> str:
    """A number of cases without a decimal point."""
    number = _number(value)
    return "" if number is None else f"{number:g}"


def _lines(
    rows: Sequence[Row], metrics: Mapping[str, str], keys: Sequence[str]
) -> dict[tuple[str, ...], dict[str, Row]]:
    lines: dict[tuple[str, ...], dict[str, Row]] = {}
    for row in rows:
        if row["metric"] in metrics:
            lines.setdefault(_key(row, keys), {})[str(row["metric"])] = row
    return lines


def _key(row: Row, keys: Sequence[str]) -> tuple[str, ...]:
    return (*(str(row[key] or "") for key in keys), str(row["plugin"] or ""), str(row["split"] or ""))


def _table(
    caption: str,
    keys: Sequence[str],
    metrics: Mapping[str, str],
    lines: Mapping[tuple[str, ...], Mapping[str, Row]],
    rows: Sequence[Row],
) -> str:
    several = len({row["plugin"] for row in rows}) > 1
    names_shown = [name for name in metrics if any(name in cells for cells in lines.values())]
    names = {"label": "Label", "operating_point": "Operating point", "group": "Group"}
    columns = [*(names[key] for key in keys), *(["Plugin"] if several else []), "Cases"]
    body = []
    for key, cells in lines.items():
        first = next(iter(cells.values()))
        positive = text_of(first["n_positive"])
        cases = text_of(first["n"]) + (f" ({positive}{_STAY}positive)" if positive else "")
        front = [*key[: len(keys)], *([key[-2]] if several else []), cases]
        body.append([*front, *(cell_of(cells.get(name)) for name in names_shown)])
    titles = [*columns, *(metrics[name] for name in names_shown)]
    title = f"{caption} (95 % intervals)"
    if len(body) > _UPRIGHT:
        return table(title, titles, body)
    # Few lines stand upright: all numbers are then in sight on a phone and on paper, too.
    heads, *rows = ([name, *(line[i] for line in body)] for i, name in enumerate(titles))
    return table(title, heads, rows)


def _reasons(rows: Sequence[Row]) -> list[str]:
    """Why values or intervals are missing; labels that share a reason are named together."""
    names = {**FREE, **DECIDED}
    labels: dict[tuple[str, str, str], list[str]] = {}
    of_metric: dict[str, set[str]] = {}
    for row in rows:
        metric, label = str(row["metric"]), str(row["label"] or "")
        if metric in names and label:
            of_metric.setdefault(metric, set()).add(label)
        if metric in names and row["reason"]:
            labels_with_reason = labels.setdefault((metric, str(row["operating_point"] or ""), str(row["reason"])), [])
            labels_with_reason += [label] if label not in labels_with_reason else []
    sentences = []
    for (metric, point, reason), labels_of_reason in labels.items():
        which = (
            "every label"
            if len(labels_of_reason) > 1 and set(labels_of_reason) == of_metric[metric]
            else ", ".join(labels_of_reason)
        )
        of_labels, at = (f" of {which}" if which else ""), (f" at {point}" if point else "")
        sentences.append(f"{names[metric]}{of_labels}{at}: {reason}")
    return sentences


def _number(value: object) -> float | None:
    """A cell of the table or a value of the card."""
    if value is None or value == "":
        return None
    return float(str(value))
