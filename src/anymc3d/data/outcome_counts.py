"""Before training: whether every split can hold every outcome, and whether enough cases choose the epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from anymc3d.data.case import SPLITS
from anymc3d.printable import listed
from anymc3d.settings.config import LabelSettings

USUAL_FOLDS = 5
QUICK_PATIENTS, AUTO_PATIENTS = USUAL_FOLDS, 10
"""Of each outcome outside the test split, without which ``train --quick`` and ``auto`` do not begin."""
_SHOWN = 6
FEW_CASES, FEW_OF_AN_OUTCOME = 30, 20
"""Fewer validation cases, or fewer of the rarer outcome, cannot distinguish one epoch from another."""


def outcomes_of(targets: NDArray[np.float64], labels: LabelSettings) -> Iterator[tuple[str, str, NDArray[np.float64]]]:
    """(column, class, which cases have it: 1, 0, or NaN where missing), of every class of every column; a number
    has none."""
    if labels.is_number:
        return
    for column, values in zip(labels.columns, targets.T, strict=True):
        for index, name in enumerate(labels.classes or ("0", "1")):
            yield column, name, np.where(np.isnan(values), np.nan, values == index)


def lacking_outcomes(
    parts: Sequence[str], patients: Sequence[str], targets: NDArray[np.float64], labels: LabelSettings
) -> list[str]:
    """One line per outcome that some part has no case of.

    Args:
        parts: of each case, such as ``train``.
        patients: of each case.
        targets: (n, L), NaN where missing.
        labels: what the targets mean.
    """
    lines = []
    for column, name, has in outcomes_of(targets, labels):
        holders = {patient for patient, value in zip(patients, has, strict=True) if value == 1}
        if holders:  # a class without any case is another fault
            having = {part for part, value in zip(parts, has, strict=True) if value == 1}
            text = lacking_text(f"{column} = {name}", len(holders), parts, having)
            lines += [text] if text else []
    return lines


def lacking_text(outcome: str, num_patients: int, parts: Sequence[str], having: set[str]) -> str | None:
    """What to say of an outcome that some of the parts in use do not have; None where all have it."""
    used = set(parts)
    ordered = [part for part in SPLITS if part in used] + sorted(used - set(SPLITS))
    lacking = [part for part in ordered if part not in having]
    if not lacking:
        return None
    if num_patients >= len(ordered):
        return f"no case of {listed(lacking)} has {outcome}: its metrics are undefined there"
    noun = "patient" if num_patients == 1 else "patients"
    text = f"{num_patients} {noun} with {outcome} cannot be in {listed(ordered)}: {listed(lacking)} "
    text += "gets none" if len(lacking) == 1 else "get none"
    if set(ordered) <= set(SPLITS) and num_patients < USUAL_FOLDS:
        left = USUAL_FOLDS - num_patients
        text += f" (of {USUAL_FOLDS} folds {left} {'gets' if left == 1 else 'get'} none)"
    return f"{text}; its metrics are undefined there"


def few_to_choose(splits: Sequence[str], targets: NDArray[np.float64], labels: LabelSettings) -> str | None:
    """Why the validation cases are too few to choose an epoch by; None where they are not."""
    inside = np.array([split == "val" for split in splits])
    known = inside & ~np.isnan(targets).all(axis=1)
    if labels.is_number:
        few = f"{known.sum()} validation cases choose the epoch: too few to compare epochs"
        return few if known.sum() < FEW_CASES else None
    counts = {f"{column} = {name}": int((has[known] == 1).sum()) for column, name, has in outcomes_of(targets, labels)}
    rarest = min(counts, key=lambda outcome: counts[outcome])
    if known.sum() >= FEW_CASES and counts[rarest] >= FEW_OF_AN_OUTCOME:
        return None
    total = sum(
        (has == 1).sum() for column, name, has in outcomes_of(targets, labels) if f"{column} = {name}" == rarest
    )
    advice = f"; 'anymc3d train' with --folds {USUAL_FOLDS} uses every case" if total >= USUAL_FOLDS else ""
    cases = "1 validation case chooses" if known.sum() == 1 else f"{known.sum()} validation cases choose"
    return (
        f"{cases} the epoch and the operating point ({counts[rarest]} with {rarest}): too few to compare epochs{advice}"
    )


def few_patients(
    splits: Sequence[str], patients: Sequence[str], targets: NDArray[np.float64], labels: LabelSettings
) -> str | None:
    """Which commands have too few patients of an outcome to begin with; None where all can.

    Args:
        splits: of each case as the manifest gives it; "" where it gives none.
        patients: of each case.
        targets: (n, L), NaN where missing.
        labels: what the targets mean.
    """
    named = [(f"{column} = {name}", has == 1) for column, name, has in outcomes_of(targets, labels)]
    if labels.is_number:
        named = [(f"a number in {labels.columns[0]}", ~np.isnan(targets[:, 0]))]
    counts = {what: _outside_test(splits, patients, has) for what, has in named}
    few = {what: count for what, count in counts.items() if count < AUTO_PATIENTS}
    if not few:
        return None
    listed = ", ".join(f"{what} has {count}" for what, count in list(few.items())[:_SHOWN])
    more = f" and {len(few) - _SHOWN} outcomes have fewer too" if len(few) > _SHOWN else ""
    quick = f", 'anymc3d train' with --quick {QUICK_PATIENTS}" if min(few.values()) < QUICK_PATIENTS else ""
    wanted = f"'anymc3d auto' wants {AUTO_PATIENTS} patients of each outcome outside the test split{quick}"
    return f"{wanted}: {listed}{more}"


def _outside_test(splits: Sequence[str], patients: Sequence[str], has: NDArray[np.bool_]) -> int:
    """How many patients outside the test split have an outcome."""
    return len(
        {who for who, split, has_outcome in zip(patients, splits, has, strict=True) if has_outcome and split != "test"}
    )
