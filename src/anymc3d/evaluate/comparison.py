"""Two plugins on the same cases: the difference of their AUROCs with an interval and a p-value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from anymc3d.evaluate.delong import PairedTest, delong_paired_test
from anymc3d.evaluate.intervals import holm
from anymc3d.evaluate.measures import LabelCases, Measure, Sampling
from anymc3d.evaluate.metrics import Metric
from anymc3d.evaluate.rare_outcomes import num_rarer, rarity_note


@dataclass(frozen=True)
class LabelComparison:
    """One label under two plugins."""

    label: str
    plugins: tuple[str, str]
    test: PairedTest
    p_holm: float | None
    """Adjusted for all comparisons of the study by Holm's method."""
    n: int
    n_positive: int

    def measures(self) -> list[Measure]:
        """Return the difference (first minus second) and its p-values as measures."""
        measures = [
            Measure(
                "auroc_difference",
                "",
                Metric(self.test.difference, self.test.reason),
                self.test.interval,
                self.n,
                self.n_positive,
            )
        ]
        for name, value in (("auroc_difference_p", self.test.p_value), ("auroc_difference_p_holm", self.p_holm)):
            metric = Metric(value, "" if value is not None else self.test.reason)
            measures.append(Measure(name, "", metric, replace(self.test.interval, low=None, high=None), self.n, None))
        return measures


def compare(
    per_plugin: Sequence[tuple[str, Sequence[LabelCases]]], patients: NDArray[np.object_], sampling: Sampling
) -> list[LabelComparison]:
    """Compare every two plugins on every label they share; ``patients`` are of all cases, (n,).

    Cases count that both plugins predicted. With several rows per patient interval and test are Obuchowski's.
    """
    compared = []
    for (name_a, labels_a), (name_b, labels_b) in combinations(per_plugin, 2):
        of_b = {cases.label: cases for cases in labels_b}
        for first in labels_a:
            if first.label in of_b:
                compared.append(_compare(first, of_b[first.label], (name_a, name_b), patients, sampling))
    return _with_holm(compared)


def compare_with(
    reference: tuple[str, Sequence[LabelCases]],
    others: Sequence[tuple[str, Sequence[LabelCases]]],
    patients: NDArray[np.object_],
    sampling: Sampling,
) -> list[LabelComparison]:
    """Compare each of ``others`` with ``reference`` on every label they share; Holm's method over the others.

    As :func:`compare`; a difference is that of the other minus the reference, and each label is a family of its own.
    """
    compared = []
    for base in reference[1]:
        of_base = [
            _compare(cases, base, (name, reference[0]), patients, sampling)
            for name, labels in others
            for cases in labels
            if cases.label == base.label
        ]
        compared += _with_holm(of_base)
    return compared


def _with_holm(compared: Sequence[LabelComparison]) -> list[LabelComparison]:
    known = [pair for pair in compared if pair.test.p_value is not None]
    adjusted = iter(holm([pair.test.p_value or 0.0 for pair in known]))
    return [pair if pair.test.p_value is None else replace(pair, p_holm=next(adjusted)) for pair in compared]


def _compare(
    first: LabelCases, second: LabelCases, plugins: tuple[str, str], patients: NDArray[np.object_], sampling: Sampling
) -> LabelComparison:
    rows, in_first, in_second = np.intersect1d(first.rows, second.rows, return_indices=True)
    targets, scores_a, scores_b = first.targets[in_first], first.scores[in_first], second.scores[in_second]
    row_patients = patients[rows]
    test = delong_paired_test(targets, scores_a, scores_b, patients=row_patients, level=sampling.level)
    if test.interval.low is not None:
        few = rarity_note(num_rarer(targets, row_patients), row_patients)
        test = replace(test, interval=replace(test.interval, reason=few))
    return LabelComparison(first.label, plugins, test, None, targets.size, int(targets.sum()))
