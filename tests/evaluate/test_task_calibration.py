"""A task's calibration: 0.5 is the operating point for every label and case, and nothing is fitted on too little."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from anymc3d.errors import UsageError
from anymc3d.evaluate import metrics
from anymc3d.evaluate.calibration import SLOPE_CEILING, SLOPE_FLOOR, Calibration
from anymc3d.evaluate.operating_points import OperatingPoint, choose
from anymc3d.evaluate.task_calibration import (
    CHOICES,
    METHODS,
    TaskCalibration,
    answer,
    choose_points,
    fit_task,
)
from anymc3d.settings.config import LabelSettings

BINARY = LabelSettings(columns=("y",), kind="binary", classes=("0", "1"))
MULTILABEL = LabelSettings(columns=("a", "b", "c"), kind="multilabel")
MULTICLASS = LabelSettings(columns=("kind",), kind="multiclass", classes=("x", "y", "z"))


def cases(num_labels=3, n=300, seed=0, prevalence=0.3):
    """Targets with 10 % missing, logits four times too large, in float32 steps as a network gives them."""
    rng = np.random.default_rng(seed)
    raw = rng.normal(-2, 6, (n, num_labels)).astype(np.float32).astype(np.float64)
    targets = (rng.random(raw.shape) < special.expit(raw / 4 + special.logit(prevalence))).astype(float)
    targets[rng.random(raw.shape) < 0.1] = np.nan
    return targets, raw


def fitted(targets, raw, labels, criterion, method="platt", **more):
    points = choose_points(targets, raw, criterion)
    return points, fit_task(targets, raw, labels, points, method=method, **more)


@pytest.mark.parametrize("criterion", ["f1", "crg", "f1_crg", "youden", "none"])
def test_probability_at_half_is_the_raw_decision_and_auroc_stays_to_the_last_digit(criterion):
    targets, raw = cases()
    points, calibration = fitted(targets, raw, MULTILABEL, criterion)
    found = answer(raw, "multilabel", [point.threshold for point in points], calibration)
    assert ((found.probabilities >= 0.5) == (found.decisions == 1)).all()
    calibrated = calibration.apply(raw)
    for j, point in enumerate(points):
        known = ~np.isnan(targets[:, j])
        assert (found.decisions[:, j] == point.decide(raw[:, j])).all()
        ranked = metrics.auroc(targets[known, j], calibrated[known, j])
        assert ranked == metrics.auroc(targets[known, j], raw[known, j])
    assert criterion == "none" or calibration.criterion == criterion


@settings(max_examples=500)
@given(
    st.floats(-40, 40, width=32),
    st.floats(-40, 40, width=32),
    st.sampled_from([SLOPE_FLOOR, 0.02, 1.0, 7.3, SLOPE_CEILING]),
    st.integers(-3, 3),
)
def test_H12_the_written_probability_decides_like_the_raw_threshold_ties_included(threshold, logit, slope, ulps):
    """Also for the neighbours of the threshold in float32, and after rounding to the nine digits of the table."""
    near = np.float32(threshold)
    for _ in range(abs(ulps)):
        near = np.nextafter(near, np.float32(np.sign(ulps) * np.inf))
    maps = {"y": Calibration(kind="platt", slope=slope, threshold=threshold)}
    calibration = TaskCalibration(method="platt", criterion="f1", split="val", cases=1, maps=maps)
    raw = np.array([[threshold], [logit], [float(near)]])
    found = answer(raw, "binary", [threshold], calibration)
    written = np.array([float(format(p, ".9g")) for p in found.probabilities[:, 0]])
    assert ((written >= 0.5) == (raw[:, 0] >= threshold)).all()
    assert ((written >= 0.5) == (found.decisions[:, 0] == 1)).all()
    assert found.probabilities[0, 0] == 0.5
    order = np.argsort(raw[:, 0], kind="stable")
    assert (np.diff(found.probabilities[order, 0]) >= 0).all()


def test_the_threshold_itself_is_positive_with_probability_exactly_one_half():
    targets, raw = cases(num_labels=1)
    points, calibration = fitted(targets, raw, BINARY, "f1")
    found = answer(np.array([[points[0].threshold]]), "binary", [points[0].threshold], calibration)
    assert (found.probabilities[0, 0], found.decisions[0, 0]) == (0.5, 1)


def test_platt_is_closer_to_the_outcomes_than_the_raw_logit_on_new_cases():
    points, calibration = fitted(*cases(seed=1), MULTILABEL, "youden")
    targets, raw = cases(seed=2, n=2000)
    thresholds = [point.threshold for point in points]
    brier = [
        np.nanmean((answer(raw, "multilabel", thresholds, one).probabilities - targets) ** 2)
        for one in (None, calibration)
    ]
    assert brier[1] < brier[0] - 0.01


@pytest.mark.parametrize("kind", ["multiclass", "ordinal"])
def test_classes_share_one_temperature_and_keep_every_argmax(kind):
    labels = LabelSettings(columns=("kind",), kind=kind, classes=("x", "y", "z"))
    rng = np.random.default_rng(3)
    true = rng.normal(size=(2000, 3)) * 1.5
    classes = np.array([rng.choice(3, p=p) for p in special.softmax(true, axis=1)])
    targets, raw = (classes[:, None] == np.arange(3)).astype(float), true * 5
    points, calibration = fitted(targets, raw, labels, "youden", method="temperature")
    assert list(calibration.maps) == ["kind"]
    assert calibration.maps["kind"].slope == pytest.approx(0.2, rel=0.1)
    found = answer(raw, kind, [point.threshold for point in points], calibration)
    assert (found.probabilities.argmax(axis=1) == raw.argmax(axis=1)).all()
    assert (found.decisions.argmax(axis=1) == raw.argmax(axis=1)).all()
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1)


@pytest.mark.parametrize("method", ["temperature", "isotonic"])
def test_maps_that_do_not_move_the_operating_point_leave_the_raw_decision(method):
    targets, raw = cases()
    points, calibration = fitted(targets, raw, MULTILABEL, "f1", method=method)
    thresholds = [point.threshold for point in points]
    found = answer(raw, "multilabel", thresholds, calibration)
    assert (found.decisions == (raw >= thresholds)).all()
    assert (np.diff(np.sort(found.probabilities, axis=0), axis=0) >= 0).all()
    assert np.nanmean((found.probabilities - targets) ** 2) < np.nanmean((special.expit(raw) - targets) ** 2)


def test_temperature_of_one_label_is_what_scipy_finds():
    from scipy import optimize

    targets, raw = cases(num_labels=1)
    _, calibration = fitted(targets, raw, BINARY, "none", method="temperature")
    known = ~np.isnan(targets[:, 0])
    y, z, n = targets[known, 0], raw[known, 0], known.sum()
    soft = np.where(y == 1, (n + 1) / (n + 2), 1 / (n + 2))

    def loss(slope):
        return np.sum(soft * np.logaddexp(0, -slope * z) + (1 - soft) * np.logaddexp(0, slope * z))

    expected = optimize.minimize_scalar(loss, bounds=(1e-3, 10), method="bounded", options={"xatol": 1e-10}).x
    assert calibration.maps["y"].slope == pytest.approx(expected, abs=1e-6)


class TestFewCases:
    def test_one_outcome_keeps_the_earlier_point_and_slope(self):
        targets, raw = cases()
        _, before = fitted(targets, raw, MULTILABEL, "f1")
        points = choose_points(targets, raw, "f1")
        few_targets, few_raw = targets[:40].copy(), raw[:40]
        few_targets[:, 1] = 0
        few_points = choose_points(few_targets, few_raw, "f1", split="all", kept=points)
        after = fit_task(few_targets, few_raw, MULTILABEL, few_points, method="platt", split="all", earlier=before)
        assert few_points[1] == points[1]
        assert after.maps["b"].slope == before.maps["b"].slope
        assert after.maps["b"].threshold == points[1].threshold
        assert any(note.startswith("b: 0 cases of the rarer outcome") for note in after.notes())

    def test_without_an_earlier_point_one_outcome_is_decided_at_half(self):
        (point,) = choose_points(np.zeros((5, 1)), np.arange(5.0)[:, None], "f1")
        assert (point.criterion, point.threshold) == ("probability=0.5", 0.0)

    @pytest.mark.parametrize("method", ["temperature", "isotonic"])
    def test_nothing_is_fitted_on_a_handful(self, method):
        targets, raw = cases(num_labels=1, n=12)
        _, calibration = fitted(targets, raw, BINARY, "none", method=method)
        assert calibration.maps["y"].kind == "none"
        assert "left uncalibrated" in calibration.notes()[0]

    @pytest.mark.parametrize("method", ["platt", "temperature", "isotonic"])
    def test_pooled_cases_stand_in_for_the_label_that_has_too_few_and_for_no_other(self, method):
        """Few-positive classes take the operating point of the pooled out-of-fold logits."""
        targets, raw = cases(n=200)
        pooled = cases(n=900, seed=5)
        targets[:, 1] = np.where(np.arange(200) < 4, 1.0, 0.0)
        alone, pool = choose_points(targets, raw, "f1"), choose_points(*pooled, "f1")
        points = choose_points(targets, raw, "f1", pooled=pooled)
        assert [point.threshold for point in points] == [alone[0].threshold, pool[1].threshold, alone[2].threshold]
        assert [point.source_split for point in points] == ["val", "pooled", "val"]
        found = fit_task(targets, raw, MULTILABEL, points, method=method, pooled=pooled)
        whole = fit_task(*pooled, MULTILABEL, pool, method=method)
        own = fit_task(targets, raw, MULTILABEL, alone, method=method)
        assert (found.maps["b"].slope, found.maps["b"].knots) == (whole.maps["b"].slope, whole.maps["b"].knots)
        assert found.maps["b"].n == (~np.isnan(pooled[0][:, 1])).sum()
        assert found.maps["b"].note == "4 cases of the rarer outcome, below 10: fitted on pooled cases"
        assert (found.maps["a"], found.maps["c"]) == (own.maps["a"], own.maps["c"])

    def test_pooled_cases_that_have_no_more_are_not_taken(self):
        targets, raw = cases(num_labels=1, n=12)
        assert choose_points(targets, raw, "f1", pooled=(targets, raw)) == choose_points(targets, raw, "f1")

    def test_pooled_cases_that_are_too_few_give_the_point_and_no_slope(self):
        targets, raw = cases(num_labels=1, n=40, prevalence=0.5)
        known = ~np.isnan(targets[:, 0])
        few = (np.zeros((9, 1)), np.arange(9.0)[:, None])
        some = targets[known][:12], raw[known][:12]
        (point,) = choose_points(*few, "f1", pooled=some)
        assert (point.source_split, point.n) == ("pooled", 12)
        (note,) = fit_task(*few, BINARY, [point], method="platt", pooled=some).notes()
        assert "even when pooled, below 10: slope left at 1" in note

    def test_a_shared_temperature_falls_back_on_pooled_cases_too(self):
        rng = np.random.default_rng(3)
        raw = rng.normal(0, 3, (200, 3))
        targets = np.eye(3)[[rng.choice(3, p=row) for row in special.softmax(raw / 3, axis=1)]]
        points = choose_points(targets, raw, "none")
        found = fit_task(targets[:8], raw[:8], MULTICLASS, points, method="temperature", pooled=(targets, raw))
        whole = fit_task(targets, raw, MULTICLASS, points, method="temperature")
        assert found.maps["kind"].slope == whole.maps["kind"].slope
        assert "fitted on pooled cases" in found.notes()[0]

    def test_a_label_without_any_value_is_no_obstacle_to_the_others(self):
        targets, raw = cases()
        targets[:, 2] = np.nan
        _, calibration = fitted(targets, raw, MULTILABEL, "f1")
        assert calibration.maps["c"].n == 0
        assert calibration.maps["a"].note == ""


class TestFit:
    """Which calibrations belong to which task."""

    calibration = TaskCalibration(
        method="platt", criterion="f1", split="val", cases=9, maps={"y": Calibration(kind="platt", threshold=1.5)}
    )

    def test_a_map_past_its_operating_point_is_refused(self):
        self.calibration.check_fits(BINARY, [1.5])
        with pytest.raises(UsageError, match=r"0.5 is at logit 1.5, the operating point at 1.25"):
            self.calibration.check_fits(BINARY, [1.25])

    def test_other_labels_are_refused(self):
        with pytest.raises(UsageError, match="expected maps for a, b, c, got y"):
            self.calibration.check_fits(MULTILABEL, [0, 0, 0])

    def test_platt_of_several_classes_is_refused_because_it_reorders_them(self):
        with pytest.raises(UsageError, match="takes temperature, got platt"):
            fitted(np.eye(3), np.eye(3), MULTICLASS, "none")

    def test_an_unknown_method_is_one_line_with_a_suggestion(self):
        with pytest.raises(UsageError, match="unknown method 'plat', did you mean 'platt'"):
            fitted(*cases(), MULTILABEL, "f1", method="plat")

    def test_maps_of_another_method_are_refused(self):
        with pytest.raises(UsageError, match="expected one isotonic map per label, got platt"):
            TaskCalibration(method="isotonic", criterion="f1", split="val", cases=1, maps=self.calibration.maps)


def test_every_choice_of_the_task_file_is_one_that_can_be_made():
    import typing

    from anymc3d.settings.config import TaskSettings

    keys = typing.get_args(typing.get_type_hints(TaskSettings)["calibration"])
    assert set(keys) == set(CHOICES)
    targets, raw = cases()
    for choice in CHOICES.values():
        points = choose_points(targets, raw, choice.criterion)
        assert all(isinstance(point, OperatingPoint) for point in points)
        if choice.method is not None:
            assert choice.method in METHODS["multilabel"]
            fit_task(targets, raw, MULTILABEL, points, method=choice.method)


class TestPooledCrg:
    """The VLM3D challenge pools the cells of all labels, so the weight of a positive is that of all labels together."""

    def study(self, seed, n=60):
        rng = np.random.default_rng(seed)
        targets = (rng.random((n, 3)) < [0.1, 0.3, 0.5]).astype(float)
        targets[:2] = [[0, 0, 0], [1, 1, 1]]
        raw = np.round(rng.normal(size=(n, 3)) + 1.5 * targets, 1)
        targets[rng.random(targets.shape) < 0.05] = np.nan
        return targets, raw

    @staticmethod
    def pooled(targets, raw, thresholds):
        known = ~np.isnan(targets)
        return metrics.crg(targets[known], (raw >= thresholds)[known].astype(float)).value

    @pytest.mark.parametrize("seed", range(6))
    def test_H14_no_other_thresholds_of_the_labels_score_higher_together(self, seed):
        targets, raw = self.study(seed)
        points = choose_points(targets, raw, "crg")
        best = self.pooled(targets, raw, [point.threshold for point in points])
        tried = [np.unique(np.r_[column.min() - 1, column[:-1], column.max() + 1]) for column in raw.T]
        known = ~np.isnan(targets)
        cells, positives = known.sum(), np.nansum(targets)
        ratio, perfect = (cells - positives) / (2 * positives), (cells - positives) / 2
        # s of a label at each of its thresholds; the sum over labels is brute force over all combinations.
        parts = []
        for j, thresholds in enumerate(tried):
            truth, score = targets[known[:, j], j] == 1, raw[known[:, j], j]
            called = score >= thresholds[:, None]
            hits, alarms = (called & truth).sum(axis=1), (called & ~truth).sum(axis=1)
            parts.append(ratio * hits - ratio * (truth.sum() - hits) - alarms)
        sums = parts[0][:, None, None] + parts[1][:, None] + parts[2]
        assert best == pytest.approx((perfect / (2 * perfect - sums)).max(), abs=1e-12)

    def test_own_weights_are_worse_together_and_one_label_keeps_its_own(self):
        targets, raw = self.study(0, n=3000)
        together = choose_points(targets, raw, "crg")
        alone = [choose_points(targets[:, [j]], raw[:, [j]], "crg")[0] for j in range(3)]
        score = [self.pooled(targets, raw, [point.threshold for point in points]) for points in (together, alone)]
        assert score[0] > score[1] + 0.01
        known = ~np.isnan(targets[:, 0])
        assert alone[0] == choose("crg", targets[known, 0], raw[known, 0])
        assert alone[0].value == pytest.approx(
            metrics.crg(targets[known, 0], alone[0].decide(raw[known, 0]).astype(float)).value
        )

    def test_f1_crg_takes_the_same_weights(self):
        targets, raw = self.study(1, n=2000)
        score = {
            name: self.pooled(targets, raw, [point.threshold for point in choose_points(targets, raw, name)])
            for name in ("f1", "f1_crg", "crg")
        }
        assert score["f1"] < score["f1_crg"] <= score["crg"]
