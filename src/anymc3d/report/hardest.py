"""The cases that a classifier was most wrong about, with pictures where their scans can be read."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from anymc3d.config import LabelSettings
from anymc3d.data.case import Case
from anymc3d.data.dataset import CaseScans
from anymc3d.errors import AnyMC3DError, ScanError
from anymc3d.evaluate.predictions import PluginPredictions
from anymc3d.evaluate.weighted import Floats
from anymc3d.explain.picture import PLANES
from anymc3d.report.planes import still
from anymc3d.report.volumes import Grey, grey_values, jpeg

PICTURE_PIXELS = 224


@dataclass(frozen=True)
class Hard:
    """One case and label. ``of_truth``: the probability that the truth was given."""

    case: str
    plugin: str
    label: str
    """Of one of several classes: the column."""
    truth: str
    answer: str
    of_truth: float
    is_wrong: bool


@dataclass(frozen=True)
class Picture:
    """Three planes through the middle of a scan as one JPEG, or why there is none."""

    jpeg: bytes
    problem: str = ""


def hardest(one: PluginPredictions, targets: Floats, cases: Sequence[str], most: int) -> tuple[list[Hard], int]:
    """Return up to ``most`` wrong answers, most confident first, and how many wrong answers there are.

    Where nothing is wrong these are the right answers that came nearest to wrong.

    Args:
        one: predictions of one plugin, (n, L).
        targets: (n, L) of 0, 1 and NaN.
        cases: n ids.
    """
    found = list(_of_classes(one, targets, cases) if _chooses(one.settings) else _of_labels(one, targets, cases))
    wrong = [hard for hard in found if hard.is_wrong]
    ranked = sorted(wrong or found, key=lambda hard: (hard.of_truth, hard.case, hard.label))
    return ranked[:most], len(wrong)


def _chooses(settings: LabelSettings | None) -> bool:
    return settings is not None and settings.one_of_classes


def _of_labels(one: PluginPredictions, targets: Floats, cases: Sequence[str]) -> list[Hard]:
    found = []
    for i, j in zip(*np.nonzero(np.isfinite(targets) & np.isfinite(one.probabilities)), strict=True):
        is_positive, decided = bool(targets[i, j]), bool(one.decisions[i, j])
        probability = float(one.probabilities[i, j])
        names = ("negative", "positive")
        of_truth = probability if is_positive else 1 - probability
        hard = Hard(
            cases[i], one.plugin, one.labels[j], names[is_positive], names[decided], of_truth, is_positive != decided
        )
        found.append(hard)
    return found


def _of_classes(one: PluginPredictions, targets: Floats, cases: Sequence[str]) -> list[Hard]:
    if one.settings is None:
        return []
    known = np.isfinite(targets).all(axis=1) & np.isfinite(one.probabilities).all(axis=1)
    column, classes = one.settings.columns[0], one.settings.classes
    found = []
    for i in np.flatnonzero(known):
        truth, decided = int(targets[i].argmax()), int(one.decisions[i].argmax())
        of_truth = float(one.probabilities[i, truth])
        found.append(Hard(cases[i], one.plugin, column, classes[truth], classes[decided], of_truth, truth != decided))
    return found


def picture_of(case: Case | None) -> Picture:
    """Draw the middle planes of a case's first scan; a scan that cannot be read is said, not an error."""
    if case is None or not case.images:
        return Picture(b"", "the manifest names no scan")
    column = next(iter(case.images))
    try:
        volume = CaseScans(case).volume(column)
    except ScanError as error:
        return Picture(b"", f"the scan cannot be read here ({error.what})")
    except (AnyMC3DError, MemoryError, OSError) as error:
        return Picture(b"", f"the scan cannot be read here ({type(error).__name__})")
    low, high = (float(v) for v in np.nanpercentile(volume.voxels, (0.5, 99.5)))
    reduced = grey_values(volume, low, high)
    stills = [
        still(plane, reduced, reduced.grey.shape[across] // 2, None, PICTURE_PIXELS) for plane, across in PLANES.items()
    ]
    return Picture(jpeg(_side_by_side(stills)))


def pictures_of(hard: Sequence[Hard], cases: Mapping[str, Case]) -> dict[str, Picture]:
    """One picture per case."""
    return {name: picture_of(cases.get(name)) for name in dict.fromkeys(one.case for one in hard)}


def _side_by_side(stills: Sequence[Grey]) -> Grey:
    """On black, every one centred in its square."""
    size = max(max(one.shape[:2]) for one in stills)
    sheet = np.zeros((size, size * len(stills), 3), dtype=np.uint8)
    for index, one in enumerate(stills):
        top, left = math.floor((size - one.shape[0]) / 2), math.floor((size - one.shape[1]) / 2) + index * size
        sheet[top : top + one.shape[0], left : left + one.shape[1]] = one
    return sheet
