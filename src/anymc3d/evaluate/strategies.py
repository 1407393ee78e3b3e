"""The paper's comparison of calibration strategies (supplement D): none, F1, CRG, F1+CRG.

Each is fitted on validation cases and scored on test cases by AUROC, F1, CRG and their mean. Platt's map keeps every
ranking, so AUROC must not move; F1 and CRG want different operating points, which is what the figure shows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from anymc3d.errors import UsageError
from anymc3d.evaluate import weighted
from anymc3d.evaluate.intervals import Interval
from anymc3d.evaluate.resampling import Statistic, bootstrap, bootstrap_interval
from anymc3d.evaluate.task_calibration import answer, choose_points, fit_task
from anymc3d.evaluate.weighted import Floats
from anymc3d.settings.config import LabelSettings

STRATEGIES: Mapping[str, str | None] = {"none": None, "F1": "f1", "CRG": "crg", "F1+CRG": "f1_crg"}
"""Name in the figure -> criterion of the operating point; None: uncalibrated, decided at 0.5."""

METRICS = ("auroc", "f1", "crg", "average")
COLUMNS = ("strategy", "metric", "value", "ci_low", "ci_high", "ci_method", "n", "fitted_on", "reason")
NUM_RESAMPLES = 1000
METHOD: Mapping[str, str] = {"binary": "bootstrap_patient", "multilabel": "bootstrap_patient_unstratified"}
HOW = "AUROC and F1 are means over labels, CRG is pooled over labels and cases"


@dataclass(frozen=True)
class Score:
    """One bar of the figure; ``value`` is None where the metric is undefined on the test cases."""

    strategy: str
    metric: str
    value: float | None
    interval: Interval
    n: int
    fitted_on: int

    def row(self) -> dict[str, object]:
        """The row of the table."""
        return {
            "strategy": self.strategy,
            "metric": self.metric,
            "value": self.value,
            "ci_low": self.interval.low,
            "ci_high": self.interval.high,
            "ci_method": self.interval.method,
            "n": self.n,
            "fitted_on": self.fitted_on,
            "reason": self.interval.reason,
        }


def compare_strategies(
    labels: LabelSettings,
    fitting: tuple[Floats, Floats],
    scoring: tuple[Floats, Floats],
    patients: Sequence[str],
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> list[Score]:
    """Score every strategy.

    Args:
        labels: binary or multi-label.
        fitting: targets (n, labels; NaN = missing) and raw logits (n, labels) of the validation cases.
        scoring: the same of the test cases.
        patients: of the test cases.
        num_resamples: of the bootstrap over patients; all strategies and metrics see the same resamples.
        seed: of the bootstrap.

    Raises:
        UsageError: a multi-class task, or no label with both outcomes among the test cases.
    """
    if labels.one_of_classes:
        msg = f"strategies move operating points; a {labels.kind} task is decided by the largest probability"
        raise UsageError(msg)
    targets, raw = scoring
    ranked = [j for j, column in enumerate(targets.T) if len(np.unique(column[~np.isnan(column)])) == 2]
    if not ranked:
        raise UsageError("no label has both outcomes among the test cases: nothing can be scored")
    scores = []
    for name, criterion in STRATEGIES.items():
        logits, decisions = _strategy(criterion, labels, fitting, raw)
        statistics = _statistics(targets, logits, decisions, ranked)
        ones = np.ones((1, len(targets)))
        strata = np.nan_to_num(targets[:, 0]) if labels.kind == "binary" else np.zeros(len(targets))
        draws = bootstrap(statistics, patients, strata, num_resamples=num_resamples, seed=seed)
        for metric in METRICS:
            value = float(statistics[metric](ones)[0])
            point = None if np.isnan(value) else value
            interval = bootstrap_interval(point, draws[metric], method=METHOD[labels.kind])
            scores.append(Score(name, metric, point, interval, len(targets), len(fitting[0])))
    return scores


def _strategy(
    criterion: str | None, labels: LabelSettings, fitting: tuple[Floats, Floats], raw: Floats
) -> tuple[Floats, Floats]:
    """Calibrated logits and 0/1 decisions of the test cases."""
    targets, fitted_raw = fitting
    points = choose_points(targets, fitted_raw, criterion or "none")
    calibration = None if criterion is None else fit_task(targets, fitted_raw, labels, points, method="platt")
    decided = answer(raw, labels.kind, [point.threshold for point in points], calibration)
    return (raw if calibration is None else calibration.apply(raw)), decided.decisions.astype(np.float64)


def _statistics(targets: Floats, logits: Floats, decisions: Floats, ranked: Sequence[int]) -> dict[str, Statistic]:
    known = ~np.isnan(targets)
    filled = np.where(known, targets, 0.0)

    def auroc(weights: Floats) -> Floats:
        rows = [known[:, j] for j in ranked]
        parts = [
            weighted.auroc(targets[of, j], logits[of, j], weights[:, of]) for j, of in zip(ranked, rows, strict=True)
        ]
        return _mean(parts)

    def counts(weights: Floats) -> list[weighted.Confusion]:
        return [
            weighted.confusion(filled[:, j], decisions[:, j], weights * known[:, j]) for j in range(targets.shape[1])
        ]

    def f1(weights: Floats) -> Floats:
        return _mean([weighted.f1(confusion) for confusion in counts(weights)])

    def crg(weights: Floats) -> Floats:
        pooled = weighted.Confusion(*np.sum([np.stack(confusion) for confusion in counts(weights)], axis=0))
        return weighted.crg(pooled)

    def average(weights: Floats) -> Floats:
        return (auroc(weights) + f1(weights) + crg(weights)) / 3

    return {"auroc": auroc, "f1": f1, "crg": crg, "average": average}


def _mean(parts: Sequence[Floats]) -> Floats:
    """Mean over the labels that are defined, per weighting."""
    values = np.stack(parts)
    is_defined = ~np.isnan(values)
    return weighted.ratio(np.where(is_defined, values, 0.0).sum(axis=0), is_defined.sum(axis=0).astype(np.float64))
