"""Rows of ``predictions.csv`` -> arrays in the order of the manifest's cases, every fault in one report."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from anymc3d.errors import ProblemsError, TableError
from anymc3d.evaluate.covariates import PARTS as COVARIATE_PARTS
from anymc3d.evaluate.metrics import one_vs_rest
from anymc3d.evaluate.outputs import NOT_ANSWERED
from anymc3d.evaluate.targets import settings_of
from anymc3d.evaluate.weighted import Floats
from anymc3d.files.spelling import matches
from anymc3d.settings.config import LabelSettings

PARTS = ("logit", "probability", "decision")
STATUSES = ("ok", "warn", "error")
PREDICT_RECORD = "predict.json"
"""What ``anymc3d predict`` leaves beside its table: which plugin made it, and what may be said of its probabilities."""
_SHOWN = 8


@dataclass(frozen=True)
class PluginPredictions:
    """One plugin's predictions, (n cases of the manifest, L labels) each, NaN where there is none, and where a decision
    is not answered."""

    plugin: str
    settings: LabelSettings | None
    """None: every case of this plugin failed, so its labels are unknown."""
    logits: Floats
    probabilities: Floats
    decisions: Floats
    states: tuple[str, ...]
    """Per case: ``ok``, ``warn``, ``error``, or ``absent`` where the table has no row."""
    parts: Mapping[str, Floats] = field(default_factory=dict)
    """``image`` and ``covariates`` of a plugin with covariates -> raw logits of that alone (n cases, L labels)."""

    sets: NDArray[np.bool_] | None = None
    """(n, L, 2): whether a prediction set holds answer 0 and answer 1; None where the table has no sets."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The label names, in column order."""
        return self.settings.output_names if self.settings else ()

    def scores(self) -> Floats:
        """Return what ranks the cases: the raw logit; of several classes the log-odds of one against the rest."""
        return self.ranked(self.logits)

    def ranked(self, logits: Floats) -> Floats:
        """The same of other raw logits (n cases, L labels)."""
        if self.settings is None or not self.settings.one_of_classes:
            return logits
        is_finite = np.isfinite(logits).all(axis=1)
        scores = np.full(logits.shape, np.nan)
        scores[is_finite] = one_vs_rest(logits[is_finite]) if is_finite.any() else scores[is_finite]
        return scores


def read_predictions(
    rows: Sequence[Mapping[str, str]],
    case_ids: Sequence[str],
    *,
    known: Sequence[LabelSettings] = (),
    plugin: str = "",
) -> tuple[list[PluginPredictions], list[str]]:
    """Return the predictions of each plugin, in order of appearance, and warnings.

    ``plugin`` names the only plugin of a table without a ``plugin`` column.

    Raises:
        UsageError: no rows, missing columns, or no case in common with the manifest.
        ProblemsError: duplicated cases, or cells that are not what their column promises.
    """
    labels = _labels(rows)
    check_overlap([row["case"] for row in rows], case_ids)
    by_plugin: dict[str, list[Mapping[str, str]]] = {}
    for row in rows:
        by_plugin.setdefault(row.get("plugin", plugin), []).append(row)
    problems: list[str] = []
    per_plugin = [_of_plugin(name, part, labels, case_ids, known, problems) for name, part in by_plugin.items()]
    if problems:
        raise ProblemsError("predictions", problems, most=_SHOWN)
    return per_plugin, left_out(rows, case_ids)


def left_out(rows: Sequence[Mapping[str, str]], case_ids: Sequence[str]) -> list[str]:
    """A line on predicted cases that the manifest does not have, or none."""
    listed = set(case_ids)
    others = list(dict.fromkeys(row["case"] for row in rows if row["case"] not in listed))
    if not others:
        return []
    return [f"{len(others)} predicted cases are not in the manifest and were left out: {shown_few(others)}"]


def shown_few(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _labels(rows: Sequence[Mapping[str, str]]) -> list[str]:
    if not rows:
        raise TableError("predictions: the table has no rows")
    columns = list(rows[0])
    named = [column.partition(".") for column in columns]
    labels = list(dict.fromkeys(label for part, dot, label in named if dot and part in PARTS))
    needed = ["case", "status", *(f"{part}.{label}" for label in labels for part in PARTS)]
    missing = [column for column in needed if column not in columns]
    if not labels:
        missing += [f"{part}.<label>" for part in PARTS]
    if missing:
        msg = f"predictions: no column {', '.join(missing[:6])}; expected a predictions.csv as 'anymc3d predict' writes"
        raise TableError(f"{msg}, got the columns {', '.join(columns[:8])}")
    return labels


def check_overlap(predicted: Sequence[str], case_ids: Sequence[str]) -> None:
    """Ids that a spreadsheet or a join rewrote would silently leave their cases out.

    Raises:
        UsageError: some were, or no case is in both tables.
    """
    known, listed = set(case_ids), set(predicted)
    rewritten = matches(listed - known, known - listed)
    if rewritten:
        pairs = ", ".join(f"{written!r} for {theirs!r}" for written, theirs in sorted(rewritten.items())[:3])
        msg = (
            f"{len(rewritten)} cases of the predictions differ from the manifest's in zeros, signs or letter case alone"
        )
        raise TableError(f"{msg}: {pairs}; take the tables as they were written, not through a spreadsheet")
    if not listed & known:
        msg = f"no case of the predictions is in the manifest: predictions have {shown_few(predicted)}"
        raise TableError(f"{msg}; the manifest has {shown_few(case_ids)}")


def _of_plugin(
    plugin: str,
    rows: Sequence[Mapping[str, str]],
    labels: Sequence[str],
    case_ids: Sequence[str],
    known: Sequence[LabelSettings],
    problems: list[str],
) -> PluginPredictions:
    plugin_labels = [label for label in labels if any(row[f"logit.{label}"] for row in rows)]
    settings = settings_of(plugin_labels, known) if plugin_labels else None
    names = settings.output_names if settings else ()
    has_sets = bool(names) and all(any(row.get(f"set.{label}") for row in rows) for label in names)
    sets = np.ones((len(case_ids), len(names), 2), dtype=bool) if has_sets else None
    values = np.full((len(PARTS), len(case_ids), len(names)), np.nan)
    states = ["absent"] * len(case_ids)
    position = {case: index for index, case in enumerate(case_ids)}
    seen: set[str] = set()
    for row in rows:
        case = row["case"]
        where = f"case {case!r}" + (f", plugin {plugin!r}" if plugin else "")
        if case in seen:
            problems.append(f"{where}: appears twice; a case is predicted once per plugin")
        seen.add(case)
        if row["status"] not in STATUSES:
            problems.append(f"{where}: status is {row['status']!r}, expected {', '.join(STATUSES)}")
        elif case in position:
            states[position[case]] = row["status"]
            if row["status"] != "error":
                cells, faults = _read_cells(row, names, settings)
                values[:, position[case]] = cells
                if sets is not None:
                    sets[position[case]], more = _read_sets(row, names)
                    faults += more
                problems += [f"{where}: {fault}" for fault in faults]
    parts = _parts(rows, names, position, f"plugin {plugin!r}: " if plugin else "", problems)
    return PluginPredictions(plugin, settings, values[0], values[1], values[2], tuple(states), parts, sets)


def _parts(
    rows: Sequence[Mapping[str, str]],
    labels: Sequence[str],
    position: Mapping[str, int],
    where: str,
    problems: list[str],
) -> dict[str, Floats]:
    """What a plugin with covariates says by either alone; none of a plugin without."""
    columns = [f"{part}.{label}" for part in COVARIATE_PARTS for label in labels]
    if not labels or not any(row.get(column) for row in rows for column in columns):
        return {}
    parts = np.full((len(COVARIATE_PARTS), len(position), len(labels)), np.nan)
    for row in rows:
        if row["case"] not in position or row["status"] == "error":
            continue
        cells = [_number(row.get(column, "")) for column in columns]
        not_finite = [column for column, value in zip(columns, cells, strict=True) if not math.isfinite(value)]
        problems += [f"{where}case {row['case']!r}: {not_finite[0]}: expected a finite number"] if not_finite else []
        parts[:, position[row["case"]]] = np.reshape(cells, (len(COVARIATE_PARTS), len(labels)))
    return dict(zip(COVARIATE_PARTS, parts, strict=True))


_SETS = {"{}": (False, False), "{0}": (True, False), "{1}": (False, True), "{0, 1}": (True, True)} | {
    "0": (True, False),
    "1": (False, True),
}


def _read_sets(row: Mapping[str, str], labels: Sequence[str]) -> tuple[list[tuple[bool, bool]], list[str]]:
    """Return whether answer 0 and answer 1 are in the set of each label of one case; and the faults."""
    cells = {label: row.get(f"set.{label}", "") for label in labels}
    faults = [
        f"set.{label} is {text!r}, expected one of {', '.join(_SETS)}"
        for label, text in cells.items()
        if text not in _SETS
    ]
    return [_SETS.get(text, (True, True)) for text in cells.values()], faults


def _read_cells(
    row: Mapping[str, str], labels: Sequence[str], settings: LabelSettings | None
) -> tuple[Floats, list[str]]:
    """Return (3, L): logit, probability, decision of one case; and the faults."""
    cells, faults = np.full((len(PARTS), len(labels)), np.nan), []
    for i, part in enumerate(PARTS):
        for j, label in enumerate(labels):
            text = row[f"{part}.{label}"]
            value = _number(text)
            if not _fits(part, value) and not (part == "decision" and text == NOT_ANSWERED):
                advice = _OF_A_SPREADSHEET if _DECIMAL_COMMA.fullmatch(text) else ""
                faults.append(f"{part}.{label} is {text!r}, expected {_EXPECTED[part]}{advice}")
            cells[i, j] = value
    open_ = np.isnan(cells[2])
    if settings and settings.one_of_classes and not faults and not open_.all() and (open_.any() or cells[2].sum() != 1):
        faults.append(f"{int(np.nansum(cells[2]))} classes of {settings.columns[0]} are decided, expected exactly one")
    return cells, faults


_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")
_OF_A_SPREADSHEET = "; take the table as it was written, not as a spreadsheet with a decimal comma saved it"
_EXPECTED = {"logit": "a finite number", "probability": "a number from 0 to 1", "decision": "0 or 1, or not answered"}


def _fits(part: str, value: float) -> bool:
    if part == "decision":
        return value in (0.0, 1.0)
    return math.isfinite(value) and (part == "logit" or 0 <= value <= 1)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
