"""The cases that a classifier was most wrong about, with pictures where their scans can be read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from anymc3d.data.case import Case
from anymc3d.data.case_scans import CaseScans
from anymc3d.errors import OutputError, ScanError, UsageError
from anymc3d.evaluate.predictions import PluginPredictions
from anymc3d.evaluate.weighted import Floats
from anymc3d.report.case_heatmap import CaseHeatmaps
from anymc3d.report.planes import middle_planes, over_scan
from anymc3d.settings.config import LabelSettings


@dataclass(frozen=True)
class HardCase:
    """One case and label. ``of_truth``: the probability that the truth was given."""

    case: str
    plugin: str
    label: str
    """The label; of a task with several classes the column."""
    truth: str
    answer: str
    of_truth: float
    is_wrong: bool
    output: str = ""
    """The plugin's output that gave the answer: the label, or ``column=class``."""

    @property
    def key(self) -> tuple[str, str, str]:
        """Whose picture it is."""
        return self.case, self.plugin, self.label


@dataclass(frozen=True)
class Picture:
    """Three planes of a scan as one JPEG, or why there is none: through the middle; with a heatmap through its highest
    voxel, above the scan alone and below with the heatmap."""

    jpeg: bytes
    problem: str = ""
    has_heat: bool = False


def hardest(
    predictions: PluginPredictions, targets: Floats, cases: Sequence[str], most: int
) -> tuple[list[HardCase], int]:
    """Return up to ``most`` wrong answers, most confident first, and how many wrong answers there are.

    Where nothing is wrong these are the right answers that came nearest to wrong.

    Args:
        predictions: predictions of one plugin, (n, L).
        targets: (n, L) of 0, 1 and NaN.
        cases: n ids.
    """
    candidates = list(
        _of_classes(predictions, targets, cases)
        if _chooses(predictions.settings)
        else _of_labels(predictions, targets, cases)
    )
    wrong = [hard for hard in candidates if hard.is_wrong]
    ranked = sorted(wrong or candidates, key=lambda hard: (hard.of_truth, hard.case, hard.label))
    return ranked[:most], len(wrong)


def _chooses(settings: LabelSettings | None) -> bool:
    return settings is not None and settings.one_of_classes


def _of_labels(predictions: PluginPredictions, targets: Floats, cases: Sequence[str]) -> list[HardCase]:
    answers = []
    for i, j in zip(
        *np.nonzero(np.isfinite(targets) & np.isfinite(predictions.probabilities) & np.isfinite(predictions.decisions)),
        strict=True,
    ):
        is_positive, decided = bool(targets[i, j]), bool(predictions.decisions[i, j])
        probability = float(predictions.probabilities[i, j])
        names = ("negative", "positive")
        of_truth = probability if is_positive else 1 - probability
        answer, label = names[decided], predictions.labels[j]
        wrong = is_positive != decided
        answers.append(
            HardCase(cases[i], predictions.plugin, label, names[is_positive], answer, of_truth, wrong, label)
        )
    return answers


def _of_classes(predictions: PluginPredictions, targets: Floats, cases: Sequence[str]) -> list[HardCase]:
    if predictions.settings is None:
        return []
    known = np.isfinite(np.stack([targets, predictions.probabilities, predictions.decisions])).all(axis=(0, 2))
    column, classes = predictions.settings.columns[0], predictions.settings.classes
    answers = []
    for i in np.flatnonzero(known):
        truth, decided = int(targets[i].argmax()), int(predictions.decisions[i].argmax())
        of_truth = float(predictions.probabilities[i, truth])
        answer, wrong = classes[decided], truth != decided
        output = predictions.labels[decided]
        answers.append(HardCase(cases[i], predictions.plugin, column, classes[truth], answer, of_truth, wrong, output))
    return answers


def picture_of(case: Case | None, hard: HardCase | None = None, heater: CaseHeatmaps | None = None) -> Picture:
    """Draw a case's first scan; a scan that cannot be read is said, not an error.

    With a heater the heatmap of the answer ``hard`` lies over it.

    Raises:
        UsageError: the heater's plugin does not know the label.
    """
    if case is None or not case.images:
        return Picture(b"", "the manifest names no scan")
    try:
        heated = None if heater is None or hard is None else heater.heat(case, hard.plugin, hard.output)
        volume = CaseScans(case).volume(next(iter(case.images))) if heated is None else heated[0]
    except (OutputError, UsageError):
        raise
    except ScanError as error:
        return Picture(b"", f"the scan cannot be read here ({error.what})")
    except Exception as error:  # noqa: BLE001 (whatever a scan makes a library raise, the page is made without it)
        return Picture(b"", f"the scan cannot be read here ({type(error).__name__})")
    if heated is None or heater is None:
        return Picture(middle_planes(volume))
    return Picture(over_scan(*heated, heater.predictor.plugins[0].card), has_heat=True)


def pictures_of(
    hard: Sequence[HardCase], cases: Mapping[str, Case], heater: CaseHeatmaps | None = None
) -> dict[tuple[str, str, str], Picture]:
    """One picture per answer; without heatmaps one per case, which its answers share."""
    if heater is not None:
        return {hard_case.key: picture_of(cases.get(hard_case.case), hard_case, heater) for hard_case in hard}
    drawn = {name: picture_of(cases.get(name)) for name in dict.fromkeys(hard_case.case for hard_case in hard)}
    return {hard_case.key: drawn[hard_case.case] for hard_case in hard}
