"""The results of numbers that people quote, as tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from anymc3d.evaluate.regression.study import BOTH
from anymc3d.evaluate.study_rows import ALL, Row
from anymc3d.evaluate.summary_cells import figure, p_value, table

_SHOWN = {
    "mae": "MAE",
    "rmse": "RMSE",
    "r2": "R²",
    "pearson": "Pearson",
    "spearman": "Spearman",
    "calibration_slope": "slope",
}
_BRIEF = ("mae", "r2", "pearson", "spearman")


def numbers_table(rows: Sequence[Row], *, cell: Callable[[str], str], brief: bool = False, groups: bool = False) -> str:
    """One line per plugin (also of parts of an answer), group and label, "" without any; ``groups``: those but
    ``all``."""
    lines: dict[tuple[str, str, str], dict[str, str]] = {}
    several = len({row["plugin"] for row in rows if row["metric"] == "mae"}) > 1
    for row in rows:
        if row["metric"] not in _SHOWN or (row["group"] == ALL) == groups:
            continue
        group, plugin, label = str(row["group"]), str(row["plugin"]), str(row["label"])
        line = {"group": group} if groups else {}
        line |= {"answer": plugin or BOTH} if several else {}
        key = (group, plugin, label)
        lines.setdefault(key, {**line, "label": label, "n": str(row["n"])})
        if not brief or row["metric"] in _BRIEF:
            lines[key][_SHOWN[str(row["metric"])]] = figure(row)
    return table(list(lines.values()), cell) if lines else ""


def differences_table(rows: Sequence[Row], *, cell: Callable[[str], str]) -> str:
    """Every comparison of two answers by their absolute errors; "" without any."""
    index = {(row["metric"], row["plugin"], row["label"]): row for row in rows}
    lines: list[Mapping[str, str]] = []
    for row in rows:
        if row["metric"] == "mae_difference":
            p, p_holm = (index[(name, row["plugin"], row["label"])] for name in _P_VALUES)
            line = {"answers": str(row["plugin"]), "label": str(row["label"]), "n": str(row["n"])}
            lines.append({**line, "MAE difference": figure(row), "p": p_value(p), "p (Holm)": p_value(p_holm)})
    return table(lines, cell) if lines else ""


_P_VALUES = ("mae_difference_p", "mae_difference_p_holm")
