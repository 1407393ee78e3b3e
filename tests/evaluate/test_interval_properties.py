"""No interval excludes its own estimate, and none claims what one case of an outcome cannot show."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anymc3d.evaluate import outputs
from anymc3d.evaluate.curves import precision_recall_curve, reliability_curve, roc_curve
from anymc3d.evaluate.intervals import wilson_interval
from anymc3d.evaluate.measures import Sampling
from anymc3d.evaluate.study import evaluate_rows
from anymc3d.evaluate.study_cases import StudySettings

QUICK = Sampling(num_resamples=60)
BOOTSTRAPPED = ("average_precision", "brier", "balanced_accuracy", "f1", "crg")


def table(raw, names, plugin):
    kind = "binary" if len(names) == 1 else "multilabel"
    probability, decision = outputs.probabilities(raw, kind), outputs.decisions(raw, kind, [0.0] * len(names))
    return [
        {"case": f"c{i}", "plugin": plugin, "status": "ok", "message": ""}
        | outputs.prediction_cells(names, raw[i], probability[i], decision[i])
        for i in range(len(raw))
    ]


def study(targets, raws, patients, **options):
    names = [f"y{j}" for j in range(targets.shape[1])] if targets.shape[1] > 1 else ["y"]
    manifest = [
        {"case": f"c{i}", "patient": str(patients[i])} | {name: str(int(targets[i, j])) for j, name in enumerate(names)}
        for i in range(len(targets))
    ]
    predictions = [row for k, raw in enumerate(raws) for row in table(raw, names, f"p{k}")]
    return evaluate_rows(predictions, manifest, settings=StudySettings(sampling=QUICK, **options))


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    num_patients=st.integers(2, 14),
    scans=st.integers(1, 8),
    num_labels=st.integers(1, 3),
    within=st.booleans(),
    shift=st.floats(0, 3),
    signal=st.floats(-1, 3),
    prevalence=st.floats(0.05, 0.95),
    seed=st.integers(0, 2**20),
)
def test_H13_no_interval_excludes_its_estimate(
    num_patients, scans, num_labels, within, shift, signal, prevalence, seed
):
    """Random clusters: outcomes within or between patients, patients alike or not, any prevalence and signal."""
    rng = np.random.default_rng(seed)
    own = np.repeat(np.arange(num_patients), rng.integers(1, scans + 1, num_patients))
    outcomes = rng.random((own.size if within else num_patients, num_labels)) < prevalence
    targets = (outcomes if within else outcomes[own]).astype(float)
    raws = [
        signal * targets + shift * rng.normal(size=(num_patients, 1))[own] + rng.normal(size=targets.shape)
        for _ in range(2)
    ]
    rows = study(targets, raws, own)
    for row in rows:
        if row["ci_low"] is not None:
            assert row["ci_low"] <= row["value"] <= row["ci_high"], row
            if row["metric"] != "auroc_difference":
                assert row["ci_low"] >= 0 and row["ci_high"] <= 1, row
    if len(np.unique(targets[:, 0])) == 2:
        probability = outputs.probabilities(raws[0], "multilabel")[:, 0]
        for curve in (
            roc_curve(targets[:, 0], raws[0][:, 0], own, QUICK),
            precision_recall_curve(targets[:, 0], raws[0][:, 0], own, QUICK),
        ):
            there = ~np.isnan(curve.band.low)
            height = _at(curve)
            assert (curve.band.low[there] <= height[there] + 1e-9).all()
            assert (curve.band.high[there] >= height[there] - 1e-9).all()
        curve = reliability_curve(targets[:, 0], probability, own, QUICK)
        there = ~np.isnan(curve.band.low)
        assert (curve.band.low[there] <= curve.y[there]).all() and (curve.y[there] <= curve.band.high[there]).all()


def _at(curve):
    if curve.kind == "roc":
        return np.interp(curve.band.x, curve.x, curve.y)
    return curve.y[np.minimum(np.searchsorted(curve.x, curve.band.x - 1e-12), curve.x.size - 1)]


def test_H13_scans_of_few_patients_with_both_outcomes_as_reported():
    """96 scans of 8 patients, each with both outcomes: 0.574 once had an interval of 0.580 to 0.701."""
    rng = np.random.default_rng(1)
    own = np.repeat(np.arange(8), 12)
    targets = (rng.random(96) < 0.4).astype(float)[:, None]
    raw = 0.4 * targets + 1.2 * rng.normal(size=(8, 1))[own] + rng.normal(size=(96, 1))
    found = {row["metric"]: row for row in study(targets, [raw], own) if row["operating_point"] in ("", "plugin")}
    for metric in ("auroc", "average_precision", "f1"):
        row = found[metric]
        assert row["ci_low"] < row["value"] < row["ci_high"]
        assert row["reason"].startswith("rough: 8 patients"), row
    assert found["auroc"]["ci_method"] == "obuchowski_logit"


class TestFewOfAnOutcome:
    def rows(self, num_positive, *, scans=1, num_negative=57):
        rng = np.random.default_rng(num_positive)
        targets = np.r_[np.ones(num_positive * scans), np.zeros(num_negative * scans)]
        own = np.repeat(np.arange(num_positive + num_negative), scans)
        raw = rng.normal(size=targets.size) + 1.5 * targets
        raw[: max(1, num_positive // 2)] = 2.0
        return {r["metric"]: r for r in study(targets[:, None], [raw[:, None]], own) if r["metric"] != "threshold"}

    @pytest.mark.parametrize("scans", [1, 3])
    @pytest.mark.parametrize("metric", BOOTSTRAPPED)
    def test_H13_one_positive_has_no_bootstrap_interval_and_a_reason(self, metric, scans):
        row = self.rows(1, scans=scans)[metric]
        assert row["value"] is not None
        assert row["ci_low"] is None
        assert "needs two cases of each outcome" in row["reason"]

    @pytest.mark.parametrize("num_positive", [2, 3, 5, 9])
    def test_H13_a_few_positives_have_wilsons_ends_or_a_word(self, num_positive):
        found = self.rows(num_positive)
        rates = [found[name] for name in ("sensitivity", "specificity")]
        balanced = found["balanced_accuracy"]
        assert balanced["ci_method"] == "wilson_ends"
        assert balanced["ci_low"] == pytest.approx(np.mean([rate["ci_low"] for rate in rates]))
        assert balanced["ci_high"] == pytest.approx(np.mean([rate["ci_high"] for rate in rates]))
        for metric in (*BOOTSTRAPPED, "auroc"):
            assert found[metric]["reason"].startswith(f"rough: {num_positive} cases of the rarer outcome"), metric

    def test_ten_positives_are_resampled_and_nothing_is_said(self):
        found = self.rows(10)
        assert found["f1"]["ci_method"] == "bootstrap_patient"
        assert {found[metric]["reason"] for metric in (*BOOTSTRAPPED, "auroc")} == {""}

    def test_ten_positives_of_three_patients_are_three(self):
        targets = np.r_[np.ones(12), np.zeros(40)]
        own = np.r_[np.repeat([0, 1, 2], 4), np.arange(3, 43)]
        raw = np.random.default_rng(0).normal(size=52) + targets
        found = {row["metric"]: row for row in study(targets[:, None], [raw[:, None]], own)}
        assert found["f1"]["ci_method"] == "wilson_ends"
        assert found["auroc"]["reason"] == "rough: 3 patients of the rarer outcome"

    def test_the_mean_over_labels_has_none_where_a_label_has_one_positive(self):
        rng = np.random.default_rng(0)
        targets = (rng.random((60, 2)) < 0.4).astype(float)
        targets[:, 1] = np.arange(60) == 0
        rows = study(targets, [targets + rng.normal(size=(60, 2))], np.arange(60))
        macro = next(row for row in rows if row["label"] == "macro" and row["metric"] == "f1")
        assert macro["ci_low"] is None
        assert macro["reason"] == "y1: no interval: needs two cases of each outcome"
        pooled = next(row for row in rows if row["label"] == "pooled" and row["metric"] == "crg")
        assert pooled["ci_low"] is not None

    def test_an_outcome_that_is_not_there_at_all_takes_nothing_away(self):
        rng = np.random.default_rng(0)
        targets = (rng.random((60, 2)) < 0.4).astype(float)
        targets[:, 1] = 0
        rows = study(targets, [targets + rng.normal(size=(60, 2))], np.arange(60))
        macro = next(row for row in rows if row["label"] == "macro" and row["metric"] == "brier")
        assert macro["ci_low"] < macro["value"] < macro["ci_high"]

    @pytest.mark.parametrize("num_positive", [2, 3, 5])
    def test_balanced_accuracy_of_few_positives_is_covered(self, num_positive):
        """True sensitivity 0.8, specificity 0.85, 57 negatives; the percentile bootstrap covered 36, 48 and 68 %."""
        rng = np.random.default_rng(num_positive)
        hits = 0
        for _ in range(400):
            ends = [wilson_interval(int(rng.binomial(n, p)), n) for n, p in ((num_positive, 0.8), (57, 0.85))]
            low, high = (sum(getattr(end, side) for end in ends) / 2 for side in ("low", "high"))
            hits += low <= 0.825 <= high
        assert hits / 400 >= 0.95
