"""How good a plugin was shown to be, and what speaks against its use: from the results in its card alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from anymc3d.evaluate.operating_points import FIXED, OperatingPoint
from anymc3d.plugins.card import PluginCard
from anymc3d.printable import shown

OUT_OF_FOLD = "out-of-fold"
"""The split of cases that were answered by a fit that never saw them."""
KEPT = ("auroc", "average_precision", "mae", "r2")
"""Metrics that neither a calibration nor an operating point changes: what a card keeps of the cases out of fold."""
CHANCE: Mapping[str, tuple[str, float]] = {"auroc": ("AUROC", 0.5), "r2": ("R²", 0.0)}
"""Metric -> its name, and what a plugin reaches that knows nothing."""
FEW_OUTCOMES = 5
"""Cases of an outcome below which an operating point may lie anywhere."""
_SPLITS = {"val": "validation", "train": "training"}
_MOST_NAMED = 6
_ONE_SIDED = 0.025
Row = Mapping[str, Any]


def out_of_fold_rows(rows: Iterable[Row]) -> tuple[dict[str, Any], ...]:
    """What a card keeps of ``rows`` of ``metrics.csv`` over cases each of which was predicted without it."""
    return tuple({**row, "split": OUT_OF_FOLD} for row in rows if row["metric"] in KEPT and row["group"] == "all")


def evidence_of(card: PluginCard) -> list[Row]:
    """The results that say whether a plugin is better than chance, one per label: out of fold where there are such,
    else on validation; none of a plugin whose file holds none."""
    rows = card.out_of_fold or card.metrics
    names = card.labels.output_names
    return [row for row in rows if row["metric"] in CHANCE and row["group"] == "all" and row["label"] in names]


def chosen_on(card: PluginCard) -> str:
    """On which cases the plugin's own results are, which flatters them: ``the validation cases``."""
    is_pooled = any(row["split"] == OUT_OF_FOLD for row in card.metrics)
    return (
        "all cases out of fold, on which it was chosen" if is_pooled else "the validation cases, on which it was chosen"
    )


def in_words(row: Row) -> str:
    """``AUROC 0.548 (95 % interval 0.330 to 0.770) on 32 cases out of fold, 15 of them positive``."""
    name = CHANCE[row["metric"]][0]
    value, low, high = (_number(row[key]) for key in ("value", "ci_low", "ci_high"))
    where = split_in_words(str(row["split"]))
    positive = row["n_positive"]
    on = f"on {row['n']} {where}" + (f", {positive} of them positive" if positive not in ("", None) else "")
    why = f" ({shown(row['reason']).removeprefix('no interval: ')})" if row["reason"] else ""
    if value is None:
        return f"{name} undefined {on}{why}"
    if low is None or high is None:
        return f"{name} {value:.3f} without an interval {on}{why}"
    return f"{name} {value:.3f} (95 % interval {low:.3f} to {high:.3f}) {on}"


def split_in_words(split: str) -> str:
    """``validation cases``."""
    return "cases out of fold" if split == OUT_OF_FOLD else f"{_SPLITS.get(split, shown(split, 40))} cases"


def is_shown(row: Row) -> bool:
    """Whether a result is surely better than chance: its whole interval lies above it. Outcomes that are separated
    perfectly have none; they are where chance would not do it in one of forty draws (exact permutation test)."""
    value, low = _number(row["value"]), _number(row["ci_low"])
    if value is None or low is not None:
        return value is not None and low is not None and low > CHANCE[row["metric"]][1]
    cases, positive = _number(row["n"]), _number(row["n_positive"])
    if row["metric"] != "auroc" or value < 1 or not cases or not positive:
        return False
    return 1 / math.comb(round(cases), round(positive)) < _ONE_SIDED


def unproven(card: PluginCard) -> dict[str, str]:
    """Label -> the result that does not show its answers to be better than chance. Of an ensemble without results of
    its own: the labels of which no member has one that does."""
    rows = evidence_of(card)
    if rows or not card.members:
        return {str(row["label"]): in_words(row) for row in rows if not is_shown(row)}
    known = [(evidence_of(part.card), unproven(part.card)) for part in card.members]
    if not known or not all(rows for rows, _ in known):
        return {}
    lacking = set.intersection(*(set(labels) for _, labels in known))
    return {name: f"of no member alone; {known[0][1][name]}" for name in card.labels.output_names if name in lacking}


def doubts_of(card: PluginCard) -> tuple[str, ...]:
    """What a user of the plugin must know, one sentence each; nothing where its results are sound."""
    return (*_of_chance(unproven(card)), *_of_points(card))


def _of_chance(why_by_label: Mapping[str, str]) -> list[str]:
    if not why_by_label:
        return []
    named = [f"{shown(name)}, {how}" for name, how in list(why_by_label.items())[:_MOST_NAMED]]
    return [f"not shown to be better than chance, so do not use it: {_listed(named, len(why_by_label))}"]


def _of_points(card: PluginCard) -> list[str]:
    """Operating points that rest on next to nothing; of classes none is used."""
    if card.labels.one_of_classes or card.labels.is_number:
        return []
    few = [
        f"{shown(name)}, {point.n_positive} positive and {point.n - point.n_positive} negative "
        f"{split_in_words(point.source_split)}"
        for name, point in zip(card.labels.output_names, _points(card), strict=False)
        if _was_chosen(point) and min(point.n_positive, point.n - point.n_positive) < FEW_OUTCOMES
    ]
    if not few:
        return []
    return [
        f"the operating point rests on fewer than {FEW_OUTCOMES} cases of an outcome, so decisions may be far off: "
        f"{_listed(few[:_MOST_NAMED], len(few))}; choose it on others with 'anymc3d calibrate'"
    ]


def _listed(named: Sequence[str], count: int) -> str:
    return " and ".join([", ".join(named), *([f"{count - len(named)} more labels"] if count > len(named) else [])])


def _points(card: PluginCard) -> Sequence[OperatingPoint]:
    return [OperatingPoint.from_dict(point) for point in card.operating_points]


def _was_chosen(point: OperatingPoint) -> bool:
    """Not the probability of 0.5 that stands where nothing was chosen."""
    return not point.criterion.startswith(FIXED)


def _number(cell: object) -> float | None:
    return None if cell in ("", None) else float(str(cell))
