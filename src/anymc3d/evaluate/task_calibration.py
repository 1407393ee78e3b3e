"""The calibration of a whole task, label by label, and the answer it gives: probability and decision.

| method      | map                         | decided by                                                  |
|-------------|-----------------------------|-------------------------------------------------------------|
| platt       | z' = slope (z - tau)        | probability >= 0.5, which is z >= tau, the operating point  |
| temperature | z' = slope z                | the operating point; multi-class: the largest probability   |
| isotonic    | linear between knots        | the operating point                                         |

The paper's choice is platt through an operating point chosen on validation (docs/metrics.md, choice B).

Where a label has fewer than ten cases of either outcome, the out-of-fold cases of all sister plugins can stand in
(``pooled``: targets and raw logits as the label's own), the fallback of docs/metrics.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal, get_args

import numpy as np

from anymc3d.errors import CalibrationError, did_you_mean
from anymc3d.evaluate import outputs
from anymc3d.evaluate.calibration import (
    IDENTITY,
    MIN_OUTCOMES,
    SAYS,
    STATES,
    Calibration,
    State,
    fit_isotonic,
    fit_platt,
    fit_temperature,
    pooled_note,
    rarer_outcome,
)
from anymc3d.evaluate.operating_points import OperatingPoint, choose, pooled_odds
from anymc3d.evaluate.weighted import Floats
from anymc3d.settings.config import MAX_LABELS, ONE_OF_CLASSES, LabelSettings
from anymc3d.settings.limits import Column, Count, Form, Label, Length
from anymc3d.types import LabelKind

Method = Literal["platt", "temperature", "isotonic"]

METHODS: Mapping[LabelKind, tuple[Method, ...]] = {
    "binary": ("platt", "temperature", "isotonic"),
    "multilabel": ("platt", "temperature", "isotonic"),
    "multiclass": ("temperature",),
    "ordinal": ("temperature",),
}
"""Kind of labels -> the methods it can take, the usual one first. One map for all classes keeps their order."""

CRITERIA = ("f1", "crg", "f1_crg", "youden", "none")
"""What the operating point is chosen for; ``none``: it stays at an uncalibrated probability of 0.5."""

HALF = "probability=0.5"
POOLED = "pooled"
"""The source of an operating point that was chosen on the pooled out-of-fold cases."""
Pooled = tuple[Floats, Floats]
"""Targets and raw logits, (n, labels) or (n,) each."""
_BELOW_HALF = 0.5 - 1e-9
"""The largest probability of a negative that is still below 0.5 in the nine digits of ``predictions.csv``."""


@dataclass(frozen=True)
class Choice:
    """What the task file's ``calibration`` key stands for; method None: probabilities stay uncalibrated."""

    method: Method | None
    criterion: str


CHOICES: Mapping[str, Choice] = {
    "none": Choice(None, "youden"),
    "f1": Choice("platt", "f1"),
    "crg": Choice("platt", "crg"),
    "f1_crg": Choice("platt", "f1_crg"),
    "youden": Choice("platt", "youden"),
    "temperature": Choice("temperature", "youden"),
    "isotonic": Choice("isotonic", "youden"),
}


@dataclass(frozen=True, kw_only=True)
class TaskCalibration:
    """How the raw logits of one task become calibrated logits, and what that was fitted on."""

    method: Method
    criterion: Label
    """What the operating points were chosen for; "" for a multi-class task, which has none."""
    split: Label
    """Where it was fitted: ``val`` as a rule, ``all`` for a manifest without splits."""
    cases: Count
    maps: Annotated[Mapping[Column, Calibration], Length(MAX_LABELS)]
    """Label -> its map, in the order of the labels; a multi-class task has one, under the name of its column."""
    fitted_on: Annotated[str, Form(r"([0-9a-f]{64})?", "64 hexadecimal digits")] = ""
    """Hash of the plugin whose raw logits were fitted; "" when it was fitted at the end of training."""

    def __post_init__(self) -> None:
        odd_kinds = sorted({label_map.kind for label_map in self.maps.values()} - {self.method, "none"})
        if odd_kinds or not self.maps:
            raise CalibrationError(
                f"calibration: expected one {self.method} map per label, got {', '.join(odd_kinds) or 'none'}"
            )

    def apply(self, raw: Floats) -> Floats:
        """Raw logits (n, labels) -> calibrated logits (n, labels), float64."""
        maps = list(self.maps.values())
        raw = np.asarray(raw, dtype=np.float64)
        if len(maps) == 1:
            return maps[0].apply(raw)
        return np.stack([label_map.apply(column) for label_map, column in zip(maps, raw.T, strict=True)], axis=1)

    def check_fits(self, labels: LabelSettings, thresholds: Sequence[float]) -> None:
        """Check that this belongs to a task with these labels and raw thresholds.

        Raises:
            UsageError: another set of labels, a method the task cannot take, or a map that does not go through its
                label's operating point, so that probability and decision would contradict each other.
        """
        names = labels.columns if labels.one_of_classes else labels.output_names
        if tuple(self.maps) != names:
            raise CalibrationError(f"calibration: expected maps for {', '.join(names)}, got {', '.join(self.maps)}")
        check_method(self.method, labels.kind)
        if self.method == "platt":
            for name, threshold in zip(names, thresholds, strict=True):
                if self.maps[name].kind != "platt" or self.maps[name].threshold != threshold:
                    at_logit = self.maps[name].threshold
                    raise CalibrationError(
                        f"calibration: {name}: 0.5 is at logit {at_logit}, the operating point at {threshold}"
                    )

    def states(self, labels: LabelSettings) -> dict[str, State]:
        """What may be said of each label's probabilities, in the order of the labels."""
        maps = list(self.maps.values()) * (len(labels.output_names) if labels.one_of_classes else 1)
        of_classes = labels.one_of_classes
        return {
            name: label_map.state(of_classes=of_classes)
            for name, label_map in zip(labels.output_names, maps, strict=True)
        }

    def notes(self) -> list[str]:
        """One line for every label that got no ordinary fit."""
        return [f"{name}: {label_map.note}" for name, label_map in self.maps.items() if label_map.note]


@dataclass(frozen=True)
class Answers:
    """What ``predictions.csv`` says of some cases, (n, labels) each."""

    logits: Floats
    probabilities: Floats
    decisions: np.ndarray


def answer(raw: Floats, kind: LabelKind, thresholds: Sequence[float], calibration: TaskCalibration | None) -> Answers:
    """Logits (n, labels) -> probabilities and decisions.

    Decided by the raw operating point, multi-class by the largest probability. Of a logit below 0 the probability is
    below 0.5 also after rounding to the table's nine digits, so the column alone decides as the plugin does.
    """
    raw = np.asarray(raw, dtype=np.float64)
    calibrated = raw if calibration is None else calibration.apply(raw)
    probability = outputs.probabilities(calibrated, kind)
    if kind not in ONE_OF_CLASSES:
        probability = np.where(calibrated < 0, np.minimum(probability, _BELOW_HALF), np.maximum(probability, 0.5))
        probability = np.where(np.isnan(calibrated), np.nan, probability)
    return Answers(raw, probability, outputs.decisions(raw, kind, thresholds))


def states_in_words(states: Mapping[str, State]) -> str:
    """``calibrated``, or which labels are what: ``shifted only, not calibrated: effusion, mass; calibrated: stone``."""
    groups = {state: [name for name, of_label in states.items() if of_label == state] for state in STATES}
    if len(set(states.values())) == 1:
        return SAYS[next(iter(states.values()))]
    return "; ".join(f"{SAYS[state]}: {', '.join(names)}" for state, names in groups.items() if names)


def check_method(method: str, kind: LabelKind) -> None:
    """Refuse a method that is unknown or that a task of this kind cannot take.

    Raises:
        UsageError: with the methods there are.
    """
    known = get_args(Method)
    if method not in known:
        raise CalibrationError(f"calibration: unknown method {method!r}{did_you_mean(method, known)}")
    if method not in METHODS[kind]:
        able = ", ".join(METHODS[kind])
        raise CalibrationError(
            f"calibration: a {kind} task takes {able}, got {method}: another map would reorder classes"
        )


def takes_pooled(targets: Floats, pooled: Floats) -> bool:
    """Whether a label's own known targets (n,) are too few, and the pooled ones (m,) are more of the rarer outcome."""
    return rarer_outcome(targets) < MIN_OUTCOMES and rarer_outcome(pooled) > rarer_outcome(targets)


def choose_points(
    targets: Floats,
    raw: Floats,
    criterion: str,
    *,
    split: str = "val",
    kept: Sequence[OperatingPoint] | None = None,
    pooled: Pooled | None = None,
) -> list[OperatingPoint]:
    """Choose one operating point per label on targets (n, labels; 0, 1, NaN = missing) and raw logits (n, labels).

    A label with too few cases is chosen on ``pooled`` where that has more. A label with one outcome only keeps its
    point of ``kept``; without ``kept`` it is decided at probability 0.5. Labels that CRG is chosen for share the
    weight of a positive, that of all their cells, as the challenge scores them.
    """
    points, odds = [], pooled_odds(targets)
    for index in range(raw.shape[1]):
        known, scores = _known(targets, raw, index)
        source = split
        if pooled is not None and takes_pooled(known, _known(*pooled, index)[0]):
            (known, scores), source = _known(*pooled, index), POOLED
        one_outcome = len(np.unique(known)) < 2
        if one_outcome and kept is not None:
            points.append(kept[index])
        else:
            name = HALF if one_outcome or criterion == "none" else criterion
            points.append(choose(name, known, scores, source_split=source, odds=odds))
    return points


def fit_task(
    targets: Floats,
    raw: Floats,
    labels: LabelSettings,
    points: Sequence[OperatingPoint],
    *,
    method: Method,
    split: str = "val",
    earlier: TaskCalibration | None = None,
    fitted_on: str = "",
    pooled: Pooled | None = None,
) -> TaskCalibration:
    """Fit the calibration of a task.

    Args:
        targets: (n, labels) of 0, 1 and NaN (missing); multi-class one column per class.
        raw: raw logits (n, labels).
        labels: of the task.
        points: one per label; platt puts them on 0.5.
        method: see the table above.
        split: what the cases are, for the record.
        earlier: the calibration until now; where a label has too few cases its slope is kept.
        fitted_on: hash of the plugin whose logits these are.
        pooled: the out-of-fold cases of all sister plugins, for labels with too few; the same as for the points.

    Raises:
        UsageError: a method that this task cannot take.
    """
    check_method(method, labels.kind)
    if labels.one_of_classes:
        maps = {labels.columns[0]: _shared_temperature(targets, raw, earlier, pooled)}
    else:
        maps = {}
        for index, name in enumerate(labels.output_names):
            before = earlier.maps[name] if earlier is not None else IDENTITY
            more = None if pooled is None else _known(*pooled, index)
            maps[name] = _fit_label(method, *_known(targets, raw, index), points[index], before, more)
    criterion = "" if labels.one_of_classes else _shared_criterion(points)
    cases = int((~np.isnan(targets)).any(axis=1).sum())
    return TaskCalibration(method=method, criterion=criterion, split=split, cases=cases, maps=maps, fitted_on=fitted_on)


def _known(targets: Floats, raw: Floats, index: int) -> tuple[Floats, Floats]:
    there = ~np.isnan(targets[:, index])
    return targets[there, index], raw[there, index]


def _shared_criterion(points: Sequence[OperatingPoint]) -> str:
    """What most labels' points were chosen for; labels with one outcome only may differ."""
    names = [point.criterion for point in points]
    return max(dict.fromkeys(names), key=names.count)


def _fit_label(
    method: Method, targets: Floats, raw: Floats, point: OperatingPoint, before: Calibration, pooled: Pooled | None
) -> Calibration:
    stands_in = pooled if pooled is not None and takes_pooled(targets, pooled[0]) else None
    if method == "platt":
        slope = before.slope if before.kind in ("platt", "temperature") else 1.0
        more = None if stands_in is None else (*stands_in, point)
        return fit_platt(targets, raw, point, slope_if_few=slope, pooled=more)
    note = ""
    if stands_in is not None:
        note = pooled_note(rarer_outcome(targets))
        targets, raw = stands_in
    rarer = rarer_outcome(targets)
    if rarer < MIN_OUTCOMES:
        return _not_fitted(method, before, rarer, targets.size, int(targets.sum()))
    if method == "isotonic":
        return replace(fit_isotonic(targets, raw), note=note)
    fitted = fit_temperature(targets, np.stack([np.zeros_like(raw), raw], axis=1))
    return replace(fitted, n_positive=int(targets.sum()), note=fitted.note or note)


def _shared_temperature(
    targets: Floats, raw: Floats, earlier: TaskCalibration | None, pooled: Pooled | None
) -> Calibration:
    classes, logits, others = _classes_of(targets, raw)
    note = ""
    if pooled is not None and others < MIN_OUTCOMES and _classes_of(*pooled)[2] > others:
        note = pooled_note(others)
        classes, logits, others = _classes_of(*pooled)
    if others < MIN_OUTCOMES:
        before = next(iter(earlier.maps.values())) if earlier is not None else IDENTITY
        return _not_fitted("temperature", before, others, classes.size, 0)
    fitted = fit_temperature(classes, logits)
    return replace(fitted, note=fitted.note or note)


def _classes_of(targets: Floats, raw: Floats) -> tuple[np.ndarray, Floats, int]:
    """Class indices (m,) and logits (m, K) of the labelled cases, and how many are not of the commonest class."""
    is_known = ~np.isnan(targets).any(axis=1)
    classes = targets[is_known].argmax(axis=1)
    return classes, raw[is_known], classes.size - int(np.bincount(classes, minlength=1).max())


def _not_fitted(method: Method, before: Calibration, rarer: int, num_cases: int, num_positive: int) -> Calibration:
    keeps = before.kind == method
    what = "the earlier map is kept" if keeps else "left uncalibrated"
    return Calibration(
        kind=before.kind if keeps else "none",
        slope=before.slope if keeps else 1.0,
        knots=before.knots if keeps else (),
        n=num_cases,
        n_positive=num_positive,
        note=f"{rarer} cases of the rarer outcome, below {MIN_OUTCOMES}: {what}",
    )
