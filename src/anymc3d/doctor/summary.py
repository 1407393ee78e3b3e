"""What a data set holds, in numbers: the top of every report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anymc3d.data.case import SPLITS
from anymc3d.data.outcome_counts import few_patients
from anymc3d.data.patients import patients_of
from anymc3d.doctor.examine import Examination
from anymc3d.doctor.histograms import Histogram, histograms
from anymc3d.doctor.label_faults import outcomes


@dataclass(frozen=True)
class Summary:
    """Counts and histograms."""

    num_cases: int
    num_patients: int
    num_scans: int
    num_read: int
    num_masks: int
    splits: dict[str, int]
    """Split -> cases; ``none`` where the manifest does not say."""
    labels: tuple[tuple[str, str, dict[str, int]], ...]
    """(column, class, split -> cases); the class ``missing`` comes last."""
    histograms: tuple[Histogram, ...]
    few_patients: str = ""
    """Which commands cannot begin with so few patients of an outcome."""


def summarise(seen: Examination) -> Summary:
    """Count what was seen."""
    cases = seen.manifest.cases
    names = [case.split or "none" for case in cases]
    return Summary(
        num_cases=len(cases),
        num_patients=len(set(filter(None, patients_of(cases)))) + sum(not case.patient for case in cases),
        num_scans=sum(len(case.images) for case in cases),
        num_read=sum(facts.error is None for facts in seen.scans.values()),
        num_masks=len(seen.masks),
        splits={split: names.count(split) for split in (*SPLITS, "none") if split in names},
        labels=tuple(_label_rows(seen, names)),
        histograms=histograms(seen),
        few_patients=_few_patients(seen),
    )


def _few_patients(seen: Examination) -> str:
    labels, cases = seen.labels, seen.manifest.cases
    if labels.settings is None:
        return ""
    return few_patients([case.split for case in cases], patients_of(cases), labels.targets, labels.settings) or ""


def _label_rows(seen: Examination, names: Sequence[str]) -> list[tuple[str, str, dict[str, int]]]:
    rows = []
    for column, name, has in outcomes(seen.labels):
        rows.append((column, name, _by_split(has == 1, names)))
    settings = seen.labels.settings
    for column, values in zip(settings.columns if settings else (), seen.labels.targets.T, strict=False):
        if np.isnan(values).any():
            rows.append((column, "missing or faulty", _by_split(np.isnan(values), names)))
    return sorted(rows, key=lambda row: settings.columns.index(row[0]) if settings else 0)


def _by_split(chosen: NDArray[np.bool_], names: Sequence[str]) -> dict[str, int]:
    counts = Counter(name for name, is_one in zip(names, chosen, strict=True) if is_one)
    return {split: counts[split] for split in (*SPLITS, "none") if split in names}
