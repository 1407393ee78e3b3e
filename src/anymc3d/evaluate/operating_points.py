"""Operating points: a threshold chosen for a stated goal on a stated split, and kept with its origin.

Thresholds are on the raw score (for a binary task the log-odds z1 - z0). A case is positive when its score is at or
above the threshold, which lies midway between two neighbouring distinct scores. docs/metrics.md.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from anymc3d.errors import CalibrationError, did_you_mean
from anymc3d.evaluate import weighted
from anymc3d.evaluate.metrics import check_pair
from anymc3d.evaluate.weighted import Confusion, Floats
from anymc3d.settings.limits import Between, Count, Label

_TIE = 1e-12
MAX_LOGIT = 1e12
"""Far beyond what any network gives."""


@dataclass(frozen=True, kw_only=True)
class OperatingPoint:
    """A threshold and where it comes from; ``value`` is what the criterion reached on the source split."""

    name: Label
    criterion: Label
    threshold: Annotated[float, Between(-MAX_LOGIT, MAX_LOGIT)]
    value: Annotated[float, Between(-MAX_LOGIT, MAX_LOGIT)]
    source_split: Label
    n: Count
    n_positive: Count

    def __post_init__(self) -> None:
        criterion_name(self.criterion)
        if not math.isfinite(self.threshold):
            raise CalibrationError(f"operating point {self.name!r}: expected a finite threshold, got {self.threshold}")

    def decide(self, scores: ArrayLike) -> NDArray[np.bool_]:
        """Return True where the score is at or above the threshold."""
        return np.asarray(scores, dtype=np.float64) >= self.threshold

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> OperatingPoint:
        """Read what :meth:`to_dict` wrote.

        Raises:
            UsageError: a key is missing or unknown, or a value is not of its kind.
        """
        expected = set(cls.__dataclass_fields__)
        if set(record) != expected:
            raise CalibrationError(f"operating point: expected the keys {sorted(expected)}, got {sorted(record)}")
        try:
            return cls(
                name=str(record["name"]),
                criterion=criterion_name(str(record["criterion"])),
                threshold=float(record["threshold"]),
                value=float(record["value"]),
                source_split=str(record["source_split"]),
                n=int(record["n"]),
                n_positive=int(record["n_positive"]),
            )
        except (TypeError, ValueError) as error:
            raise CalibrationError(f"operating point: a value is not of its kind ({error})") from error


@dataclass(frozen=True)
class Criterion:
    """What a threshold is chosen for.

    ``reached(counts)`` is reported as the value; among thresholds the largest ``goal(counts, wanted)`` wins, by
    default what is reported. ``takes_odds``: both also take the negatives per positive among the cells of all labels.
    """

    meaning: str
    reached: Callable[..., Floats]
    goal: Callable[[Confusion, float], Floats] | None = None
    takes_odds: bool = False

    @property
    def takes_value(self) -> bool:
        """Whether a wanted value belongs to it."""
        return self.goal is not None

    def value(self, counts: Confusion, odds: float | None) -> Floats:
        """What is reported, for each of the counted thresholds."""
        return self.reached(counts, odds) if self.takes_odds else self.reached(counts)


def pooled_odds(targets: Floats) -> float | None:
    """Negatives per positive among all known cells of targets (n, labels; NaN = missing), as the VLM3D challenge pools
    labels and exams; None for one label, which has its own, and where there is nothing to compare."""
    positives, known = np.nansum(targets), (~np.isnan(targets)).sum()
    if targets.shape[1] < 2 or positives in (0, known):
        return None
    return float((known - positives) / positives)


def _youden(counts: Confusion) -> Floats:
    return weighted.sensitivity(counts) + weighted.specificity(counts) - 1


def _f1_crg(counts: Confusion, odds: float | None = None) -> Floats:
    return (weighted.f1(counts) + weighted.crg(counts, odds)) / 2


def _specificity_given(counts: Confusion, wanted: float) -> Floats:
    return np.where(weighted.sensitivity(counts) >= wanted - _TIE, weighted.specificity(counts), -1.0)


def _sensitivity_given(counts: Confusion, wanted: float) -> Floats:
    return np.where(weighted.specificity(counts) >= wanted - _TIE, weighted.sensitivity(counts), -1.0)


CRITERIA: Mapping[str, Criterion] = {
    "youden": Criterion("largest sensitivity + specificity - 1", _youden),
    "f1": Criterion("largest F1", weighted.f1),
    "crg": Criterion("largest CRG score of all labels together", weighted.crg, takes_odds=True),
    "f1_crg": Criterion("largest mean of F1 and CRG", _f1_crg, takes_odds=True),
    "sensitivity": Criterion(
        "best specificity with at least this sensitivity", weighted.sensitivity, _specificity_given
    ),
    "specificity": Criterion(
        "best sensitivity with at least this specificity", weighted.specificity, _sensitivity_given
    ),
}
"""Chosen on data. ``probability=P`` is known too: it needs no data, its threshold is the log-odds of P."""

FIXED = "probability"
_FORM = re.compile(r"^([a-z0-9_]+?)(?:\s*>?=\s*(\S+))?$")


def parse_criterion(text: str) -> tuple[str, float | None]:
    """Read ``youden``, ``sensitivity=0.95`` (or ``>=``), ``probability=0.5`` into its name and wanted value.

    Raises:
        UsageError: an unknown name, or a value that is missing, not wanted or outside (0, 1); sensitivity and
            specificity may also be 1.
    """
    known = [*CRITERIA, FIXED]
    match = _FORM.match(text.strip())
    name = match.group(1) if match else text.strip()
    if match is None or name not in known:
        raise CalibrationError(f"unknown operating point {text!r}{did_you_mean(name, known)}")
    value = match.group(2)
    takes_value = name == FIXED or CRITERIA[name].takes_value
    if not takes_value:
        if value is not None:
            raise CalibrationError(f"operating point {name!r} takes no value, got {text!r}")
        return name, None
    try:
        wanted = float(value) if value is not None else math.nan
    except ValueError:
        wanted = math.nan
    if not (0 < wanted < 1 or (wanted == 1 and name != FIXED)):
        raise CalibrationError(f"operating point {name!r}: expected a share such as {name}=0.95, got {text!r}")
    return name, wanted


def criterion_name(text: str) -> str:
    """Return the one spelling of a criterion that names it in tables and plugins: ``sensitivity=0.95``."""
    name, wanted = parse_criterion(text)
    return name if wanted is None else f"{name}={wanted:g}"


def choose(
    criterion: str,
    targets: ArrayLike,
    scores: ArrayLike,
    *,
    source_split: str = "val",
    odds: float | None = None,
) -> OperatingPoint:
    """Choose the threshold that serves ``criterion`` best on these cases, 0/1 targets (n,) and raw scores (n,).

    ``odds``: for ``crg`` and ``f1_crg`` of one label among several, see :func:`pooled_odds`. The score of all cells
    is largest where every label's threshold weighs its positives by these (supplement D, "per class"; the score's own
    weights are of all cells), so each label can be chosen alone. None: of these cases.

    Ties go to the point of the ROC curve nearest to (0, 1), then to the lower threshold, which misses fewer. A
    threshold that calls every case the same way lies half a gap outside the scores.

    Raises:
        UsageError: an unknown criterion, or cases of one outcome only, on which nothing can be chosen.
    """
    name, wanted = parse_criterion(criterion)
    target_array, score_array = check_pair(targets, scores)
    num_cases, num_positive = target_array.size, int(target_array.sum())
    origin = {"source_split": source_split, "n": num_cases, "n_positive": num_positive}
    spelled = criterion_name(criterion)
    if name == FIXED and wanted is not None:
        threshold = math.log(wanted / (1 - wanted))
        return OperatingPoint(name=spelled, criterion=spelled, threshold=threshold, value=wanted, **origin)
    if num_positive in (0, num_cases):
        msg = f"operating point {spelled!r}: expected both outcomes in {source_split}, got {num_positive} positive "
        raise CalibrationError(msg + f"of {num_cases} cases; use probability=0.5 or choose on other cases")
    thresholds = candidate_thresholds(score_array)
    counts = counts_at(target_array, score_array, thresholds)
    rule = CRITERIA[name]
    reached = rule.value(counts, odds)
    best = _best(reached if rule.goal is None or wanted is None else rule.goal(counts, wanted), counts)
    value = float(reached[best])
    return OperatingPoint(name=spelled, criterion=spelled, threshold=float(thresholds[best]), value=value, **origin)


def candidate_thresholds(scores: Floats) -> Floats:
    """Return every threshold that matters, ascending: below all, midway between distinct scores, above all."""
    distinct = np.unique(scores)
    if distinct.size == 1:
        return np.array([distinct[0] - 0.5, distinct[0] + 0.5])
    gaps = np.diff(distinct)
    midway = distinct[:-1] + gaps / 2
    midway = np.where(midway > distinct[:-1], midway, distinct[1:])  # neighbours in floating point have no middle
    return np.r_[distinct[0] - gaps[0] / 2, midway, distinct[-1] + max(gaps[-1] / 2, np.spacing(abs(distinct[-1])))]


def counts_at(targets: Floats, scores: Floats, thresholds: Floats) -> Confusion:
    """Return the four counts at each threshold."""
    positive, negative = np.sort(scores[targets == 1]), np.sort(scores[targets == 0])
    missed = np.searchsorted(positive, thresholds, side="left").astype(np.float64)
    spared = np.searchsorted(negative, thresholds, side="left").astype(np.float64)
    return Confusion(tp=positive.size - missed, fp=negative.size - spared, fn=missed, tn=spared)


def _best(goal: Floats, counts: Confusion) -> int:
    """Return the index of the largest goal; ties by distance to (0, 1), then the lowest threshold."""
    tied = np.flatnonzero(goal >= goal.max() - _TIE)
    distance = (1 - weighted.sensitivity(counts)[tied]) ** 2 + (1 - weighted.specificity(counts)[tied]) ** 2
    return int(tied[np.flatnonzero(distance <= distance.min() + _TIE)[0]])
