"""Conformal prediction sets: which answers a case may have, so that the true one is among them as often as promised.

Split conformal prediction, by answer (label-conditional; Vovk 2012): each answer of each label has its own bound, the
finite-sample quantile of the scores of calibration cases that truly have it. So of the cases that are positive at least
the promised share has "positive" in the set, and so of the negative ones; with one bound for both, a rare outcome could
be missed always. The bounds are of what ranks the cases, not of calibrated probabilities: a calibration fitted to the
same cases changes no set.

The promise is for cases exchangeable with the calibration cases (same site, scanner and referral), and on average over
draws of them. Several cases of one patient count once, by the least fitting.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from anymc3d.errors import CalibrationError
from anymc3d.evaluate import outputs
from anymc3d.evaluate.calibration import Logit
from anymc3d.evaluate.operating_points import MAX_LOGIT
from anymc3d.evaluate.weighted import Floats
from anymc3d.settings.config import LabelSettings
from anymc3d.settings.limits import Between, Count, Label, Length

LOWEST, HIGHEST = 0.5, 0.999
"""Coverages that can be asked for."""

Answers = NDArray[np.bool_]
"""(n, labels, 2): whether answer 0 and answer 1 are in the set."""


@dataclass(frozen=True, kw_only=True)
class SetBounds:
    """Of one label, on what ranks the cases (``outputs.ranking_scores``).

    ``positive_from``: from which on answer 1 is in the set; ``negative_to``: up to which answer 0 is. None = always:
    too few calibration cases for the coverage, or one class of several, whose answer 0 is the other classes' business.
    """

    positive_from: Logit | None
    negative_to: Logit | None
    n_positive: Count
    n_negative: Count
    """Patients that they rest on."""


@dataclass(frozen=True, kw_only=True)
class PredictionSets:
    """How the sets of a plugin are made, and on what its bounds rest."""

    coverage: Annotated[float, Between(LOWEST, HIGHEST)]
    split: Label
    cases: Count
    labels: Annotated[Mapping[Label, SetBounds], Length(1000)]
    """In the order of the plugin's labels."""

    def check_fits(self, labels: LabelSettings) -> None:
        """Refuse bounds of other labels.

        Raises:
            UsageError: they are.
        """
        if list(self.labels) != list(labels.output_names):
            raise CalibrationError(
                f"prediction_sets.labels: expected {', '.join(labels.output_names)}, got {', '.join(self.labels)}"
            )

    def answers(self, raw: Floats, labels: LabelSettings) -> Answers:
        """Which answers raw logits (n, labels) allow."""
        scores = _scores(raw, labels)
        allowed = np.ones((*scores.shape, 2), dtype=bool)
        for j, bounds in enumerate(self.labels.values()):
            if bounds.negative_to is not None:
                allowed[:, j, 0] = scores[:, j] <= bounds.negative_to
            if bounds.positive_from is not None:
                allowed[:, j, 1] = scores[:, j] >= bounds.positive_from
        if labels.one_of_classes:
            allowed[..., 0] = ~allowed[..., 1]
        return allowed


def fit_sets(
    targets: Floats, raw: Floats, labels: LabelSettings, patients: Sequence[str], *, coverage: float, split: str
) -> PredictionSets:
    """Fit the bounds on calibration cases: targets (n, labels; NaN = missing) and raw logits (n, labels).

    Raises:
        UsageError: a coverage outside 0.5 to 0.999.
    """
    if not LOWEST <= coverage <= HIGHEST:
        raise CalibrationError(f"--coverage: expected {LOWEST} to {HIGHEST}, got {coverage:g}")
    scores, names = _scores(raw, labels), np.asarray(patients, dtype=object)
    bounds = {}
    for j, label in enumerate(labels.output_names):
        positive, negative = (targets[:, j] == answer for answer in (1, 0))
        from_, n_positive = _bound(-scores[positive, j], names[positive], coverage)
        to, n_negative = (None, 0) if labels.one_of_classes else _bound(scores[negative, j], names[negative], coverage)
        bounds[label] = SetBounds(
            positive_from=None if from_ is None else -from_,
            negative_to=to,
            n_positive=n_positive,
            n_negative=n_negative,
        )
    return PredictionSets(coverage=coverage, split=split, cases=len(scores), labels=bounds)


def needed_patients(coverage: float) -> int:
    """How many patients with an answer there must be, so that a set can ever leave it out."""
    return math.ceil(round(coverage / (1 - coverage), 9))


def too_few(sets: PredictionSets, labels: LabelSettings) -> list[str]:
    """One line for each answer that is in every set."""
    needed, lines = needed_patients(sets.coverage), []
    for name, bounds in sets.labels.items():
        pairs = [("1", bounds.positive_from, bounds.n_positive), ("0", bounds.negative_to, bounds.n_negative)]
        for answer, bound, count in pairs[:1] if labels.one_of_classes else pairs:
            if bound is None:
                what = f"{name}: {count} patients with {answer} are too few for a coverage of {sets.coverage:g}"
                lines.append(f"{what} ({needed} are needed): that answer is in every set")
    return lines


def set_cells(allowed: NDArray[np.bool_], names: Sequence[str], *, one_of_classes: bool) -> dict[str, str]:
    """``set.<label>`` of one case, from its answers (labels, 2): ``{0}``, ``{1}``, ``{0, 1}`` or ``{}``; of classes 1
    where the class is in the set."""
    if one_of_classes:
        return {f"set.{name}": str(int(allowed[j, 1])) for j, name in enumerate(names)}
    texts = [", ".join(str(answer) for answer in (0, 1) if allowed[j, answer]) for j in range(len(names))]
    return {f"set.{name}": f"{{{text}}}" for name, text in zip(names, texts, strict=True)}


def unanswered(
    allowed: NDArray[np.bool_], decided: NDArray[np.int_], names: Sequence[str], *, one_of_classes: bool
) -> tuple[str, ...]:
    """The labels of one case whose decision (labels,) is not the only answer in the set (labels, 2): an empty or a full
    set, or a decision that it leaves out. Of classes all or none."""
    rows = np.arange(len(names))
    alone = allowed[rows, decided] & ~allowed[rows, 1 - decided]
    if one_of_classes:
        return () if alone.all() else tuple(names)
    return tuple(name for name, is_alone in zip(names, alone, strict=True) if not is_alone)


def _scores(raw: Floats, labels: LabelSettings) -> Floats:
    return np.clip(outputs.ranking_scores(np.asarray(raw, dtype=np.float64), labels.kind), -MAX_LOGIT, MAX_LOGIT)


def _bound(unfit: Floats, patients: NDArray[np.object_], coverage: float) -> tuple[float | None, int]:
    """The (n + 1) coverage-th smallest of n patients' largest values, None where that is beyond the last; and n."""
    worst: dict[str, float] = {}
    for value, patient in zip(unfit.tolist(), patients, strict=True):
        worst[patient] = max(value, worst.get(patient, -math.inf))
    ordered = sorted(worst.values())
    rank = math.ceil(round((len(ordered) + 1) * coverage, 9))
    return (ordered[rank - 1] if rank <= len(ordered) else None), len(ordered)
