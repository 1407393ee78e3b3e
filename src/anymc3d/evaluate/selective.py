"""What not answering costs and brings: how many cases are answered, how often these are wrong, and prediction sets.

Where a table has decisions that are not answered, every number of the plugin's own decisions is of the answered cases
alone; ``answered`` says how many these are. The selective risk is the share of wrong decisions among them; its curve
answers the surest cases first (El-Yaniv and Wiener 2010).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from anymc3d.evaluate.measures import LabelCases, Measure, Sampling, share_interval
from anymc3d.evaluate.metrics import Metric
from anymc3d.evaluate.predictions import PluginPredictions
from anymc3d.evaluate.study_points import PLUGIN_POINT
from anymc3d.evaluate.weighted import Floats


@dataclass(frozen=True)
class Selective:
    """Decisions of one label, or of one task of several classes, as they would be without abstaining; (m,) arrays."""

    label: str
    rows: NDArray[np.intp]
    targets: Floats
    wrong: Floats
    confidence: Floats
    """How far from the other decision: of a label the distance of its score from where the decision changes, of classes
    the probability of the decided one."""
    answered: NDArray[np.bool_]

    @property
    def risk(self) -> float | None:
        """Share of wrong decisions among the answered cases; None where none is answered."""
        return float(self.wrong[self.answered].mean()) if self.answered.any() else None


def abstains(one: PluginPredictions) -> bool:
    """Whether some decision of a predicted case is not answered."""
    return bool((np.isnan(one.decisions) & np.isfinite(one.logits)).any())


def cases_by_point(labels: Sequence[LabelCases]) -> Iterator[tuple[list[LabelCases], str | None]]:
    """The cases of labels as measures take them, and the operating point to keep (None = all).

    Once as they are; where decisions are not answered once without the plugin's own decisions, and once of the answered
    cases, for these alone.
    """
    if not any(np.isnan(_decided(cases)).any() for cases in labels):
        yield list(labels), None
        return
    yield [replace(cases, decisions=_others(cases)) for cases in labels], None
    yield [_answered_only(cases) for cases in labels], PLUGIN_POINT


def _decided(cases: LabelCases) -> Floats:
    decisions = cases.decisions[PLUGIN_POINT]
    assert not isinstance(decisions, str), "the plugin's decisions are chosen on nothing"
    return decisions


def _others(cases: LabelCases) -> dict[str, Floats | str]:
    return {point: decisions for point, decisions in cases.decisions.items() if point != PLUGIN_POINT}


def _answered_only(cases: LabelCases) -> LabelCases:
    decided = _decided(cases)
    is_answered = ~np.isnan(decided)
    parts = {name: getattr(cases, name)[is_answered] for name in ("rows", "targets", "scores", "probabilities")}
    return replace(cases, decisions={PLUGIN_POINT: decided[is_answered]}, **parts)


def selective_cases(labels: Sequence[LabelCases], column: str | None) -> list[Selective]:
    """One entry per label; one for the task where it has several classes (its ``column``)."""
    with_targets = [cases for cases in labels if cases.targets.size]
    if column is None:
        return [_of_label(cases) for cases in with_targets]
    if not with_targets:
        return []
    targets, probabilities = (
        np.stack([getattr(c, name) for c in labels], axis=1) for name in ("targets", "probabilities")
    )
    decided, rows = probabilities.argmax(axis=1), np.arange(len(probabilities))
    answered = ~np.isnan(_decided(labels[0]))
    wrong = 1 - targets[rows, decided]
    return [Selective(column, labels[0].rows, wrong, wrong, probabilities[rows, decided], answered)]


def _of_label(cases: LabelCases) -> Selective:
    decided = _decided(cases)
    answered = ~np.isnan(decided)
    boundary = _boundary(cases.scores[answered], decided[answered])
    whole = np.where(answered, decided, (cases.scores >= boundary).astype(np.float64))
    wrong = (whole != cases.targets).astype(np.float64)
    return Selective(cases.label, cases.rows, cases.targets, wrong, np.abs(cases.scores - boundary), answered)


def _boundary(scores: Floats, decided: Floats) -> float:
    """Halfway between the highest score that was decided 0 and the lowest that was decided 1."""
    ends = [*scores[decided == 0].tolist()], [*scores[decided == 1].tolist()]
    inner = [max(ends[0])] * bool(ends[0]) + [min(ends[1])] * bool(ends[1])
    return float(np.mean(inner)) if inner else 0.0


def selective_measures(
    selective: Sequence[Selective], patients: NDArray[np.object_], sampling: Sampling
) -> Iterator[tuple[str, Measure]]:
    """Label -> how many are answered, and the risk among these; ``patients`` are of all cases of the group."""
    for of_label in selective:
        names = patients[of_label.rows]
        left = int((~of_label.answered).sum())
        share = Metric(float(of_label.answered.mean()), f"{left} of {of_label.answered.size} not answered")
        interval = share_interval(of_label.answered.astype(np.float64), names, sampling)
        yield of_label.label, Measure("answered", PLUGIN_POINT, share, interval, of_label.answered.size, None)
        wrong = of_label.wrong[of_label.answered]
        if wrong.size:
            interval = share_interval(wrong, names[of_label.answered], sampling)
            yield (
                of_label.label,
                Measure("selective_risk", PLUGIN_POINT, Metric(of_label.risk), interval, wrong.size, None),
            )


def set_measures(
    predictions: PluginPredictions, targets: Floats, patients: NDArray[np.object_], sampling: Sampling
) -> Iterator[tuple[str, Measure]]:
    """Label -> how often the prediction sets hold the true answer, and how often they hold one answer alone.

    ``predictions`` and ``targets`` (n, labels) are of the cases of the group alone.
    """
    if predictions.sets is None or predictions.settings is None:
        return
    known = ~np.isnan(targets) & np.isfinite(predictions.logits)
    truth = np.where(known, targets, 0).astype(np.intp)
    is_covered = np.take_along_axis(predictions.sets, truth[..., None], axis=2)[..., 0]
    alone = predictions.sets.sum(axis=2) == 1

    def share(metric: str, right: NDArray[np.bool_], of: NDArray[np.bool_]) -> Measure:
        values = right[of].astype(np.float64)
        if not values.size:
            return Measure(
                metric, "", Metric(None, "no case"), share_interval(np.ones(1), patients[:1], sampling), 0, None
            )
        return Measure(
            metric, "", Metric(float(values.mean())), share_interval(values, patients[of], sampling), values.size, None
        )

    if predictions.settings.one_of_classes:
        for j, label in enumerate(predictions.labels):
            yield label, share("set_coverage_positive", is_covered[:, j], known[:, j] & (truth[:, j] == 1))
        whole = known.all(axis=1)
        yield predictions.settings.columns[0], share("set_coverage", (is_covered | (truth == 0)).all(axis=1), whole)
        yield predictions.settings.columns[0], share("set_single", predictions.sets[..., 1].sum(axis=1) == 1, whole)
        return
    for j, label in enumerate(predictions.labels):
        yield label, share("set_coverage", is_covered[:, j], known[:, j])
        yield label, share("set_coverage_positive", is_covered[:, j], known[:, j] & (truth[:, j] == 1))
        yield label, share("set_coverage_negative", is_covered[:, j], known[:, j] & (truth[:, j] == 0))
        yield label, share("set_single", alone[:, j], known[:, j])
