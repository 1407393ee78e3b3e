"""Calibration: operating point on 0.5, ranking untouched, fits against other people's optimisers."""

import json

import numpy as np
import pytest
from hypothesis import event, given
from hypothesis import strategies as st
from scipy import optimize, special

from anymc3d.errors import UsageError
from anymc3d.evaluate import metrics
from anymc3d.evaluate.calibration import (
    IDENTITY,
    SLOPE_FLOOR,
    Calibration,
    fit_isotonic,
    fit_platt,
    fit_temperature,
)
from anymc3d.evaluate.operating_points import choose
from anymc3d.evaluate.task_calibration import TaskCalibration, answer
from anymc3d.settings.plain import from_plain


def task_of(calibration: Calibration) -> TaskCalibration | None:
    """The calibration of a task with one label."""
    if calibration.kind == "none":
        return None
    return TaskCalibration(method=calibration.kind, criterion="f1", split="val", cases=1, maps={"a": calibration})


def overconfident(seed: int, n: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Targets drawn from sigmoid(z / 4 - 0.5), so the raw logits are four times too large and shifted."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=6, size=n)
    return (rng.random(n) < special.expit(logits / 4 - 0.5)).astype(float), logits


@pytest.mark.parametrize("criterion", ["youden", "f1", "crg", "f1_crg", "sensitivity=0.9"])
def test_operating_point_lands_exactly_on_one_half_and_auroc_stays(criterion):
    targets, logits = overconfident(0)
    point = choose(criterion, targets, logits)
    calibrated = fit_platt(targets, logits, point).apply(logits)
    probabilities = special.expit(calibrated)
    assert special.expit(fit_platt(targets, logits, point).apply(point.threshold)) == 0.5
    assert ((probabilities >= 0.5) == point.decide(logits)).all()
    assert metrics.auroc(targets, calibrated) == metrics.auroc(targets, logits)


def test_platt_slope_is_the_minimum_scipy_finds():
    targets, logits = overconfident(1)
    point = choose("youden", targets, logits)
    positives = targets.sum()
    soft = np.where(targets == 1, (positives + 1) / (positives + 2), 1 / (targets.size - positives + 2))

    def loss(slope):
        z = slope * (logits - point.threshold)
        return np.sum(soft * np.logaddexp(0, -z) + (1 - soft) * np.logaddexp(0, z))

    expected = optimize.minimize_scalar(loss, bounds=(1e-3, 10), method="bounded", options={"xatol": 1e-10}).x
    assert fit_platt(targets, logits, point).slope == pytest.approx(expected, abs=1e-6)
    assert expected == pytest.approx(0.25, abs=0.06)


def test_platt_calibrates_better_than_raw_logits():
    targets, logits = overconfident(2, n=2000)
    calibration = fit_platt(targets[:1000], logits[:1000], choose("youden", targets[:1000], logits[:1000]))
    raw = metrics.compute("brier", targets[1000:], special.expit(logits[1000:])).value
    calibrated = metrics.compute("brier", targets[1000:], special.expit(calibration.apply(logits[1000:]))).value
    assert calibrated < raw - 0.01


def test_perfectly_separated_cases_keep_a_finite_slope():
    targets, logits = np.repeat([0.0, 1.0], 20), np.arange(40.0)
    calibration = fit_platt(targets, logits, choose("youden", targets, logits))
    assert 0 < calibration.slope < 100
    assert calibration.note == ""


def test_inverted_logits_hit_the_floor_and_say_so():
    targets, logits = np.repeat([1.0, 0.0], 20), np.arange(40.0)
    calibration = fit_platt(targets, logits, choose("youden", targets, logits))
    assert calibration.slope == SLOPE_FLOOR
    assert "floor" in calibration.note


class TestFewCases:
    targets = np.array([1.0] * 3 + [0.0] * 40)
    logits = np.linspace(3, -3, 43)

    def test_without_pooled_cases_only_the_operating_point_moves(self):
        point = choose("youden", self.targets, self.logits)
        calibration = fit_platt(self.targets, self.logits, point)
        assert (calibration.slope, calibration.threshold) == (1.0, point.threshold)
        assert "3 cases of the rarer outcome" in calibration.note

    def test_pooled_cases_are_used_where_given(self):
        targets, logits = overconfident(3)
        pooled = choose("f1", targets, logits)
        calibration = fit_platt(
            self.targets, self.logits, choose("f1", self.targets, self.logits), pooled=(targets, logits, pooled)
        )
        assert calibration.slope == fit_platt(targets, logits, pooled).slope
        assert calibration.threshold == pooled.threshold
        assert "pooled" in calibration.note


class TestTemperature:
    def test_recovers_the_temperature_of_simulated_logits(self):
        rng = np.random.default_rng(4)
        true = rng.normal(size=(4000, 3)) * 1.5
        classes = np.array([rng.choice(3, p=p) for p in special.softmax(true, axis=1)])
        calibration = fit_temperature(classes, true * 5)
        assert calibration.slope == pytest.approx(0.2, rel=0.08)

    def test_never_changes_the_largest_class_and_survives_separation(self):
        logits = np.eye(4)[[0, 1, 2, 3, 0]] * 3
        calibration = fit_temperature([0, 1, 2, 3, 0], logits)
        assert np.isfinite(calibration.slope)
        assert (calibration.apply(logits).argmax(axis=1) == logits.argmax(axis=1)).all()

    def test_refuses_classes_that_are_not_there(self):
        with pytest.raises(UsageError, match="class indices from 0 to 1"):
            fit_temperature([0, 2], np.zeros((2, 2)))
        with pytest.raises(UsageError, match="shapes"):
            fit_temperature([0, 1, 1], np.zeros((2, 2)))


class TestIsotonic:
    def test_equals_scikit_learn_and_never_falls(self):
        from sklearn.isotonic import IsotonicRegression

        targets, logits = overconfident(5)
        grid = np.sort(logits)
        ours = special.expit(fit_isotonic(targets, logits).apply(grid))
        theirs = IsotonicRegression(out_of_bounds="clip").fit(logits, targets).predict(grid)
        at_knots = np.isin(grid, [x for x, _ in fit_isotonic(targets, logits).knots])
        np.testing.assert_allclose(ours[at_knots], theirs[at_knots], atol=2e-6)
        assert (np.diff(ours) >= 0).all()

    def test_one_outcome_is_refused(self):
        with pytest.raises(UsageError, match="both outcomes"):
            fit_isotonic([1, 1], [0.1, 0.2])


@given(
    st.lists(st.floats(-60, 60, width=32), min_size=2, max_size=30, unique=True),
    st.floats(SLOPE_FLOOR, 50),
    st.floats(-20, 20, width=32),
)
def test_the_map_is_strictly_increasing(values, slope, threshold):
    ordered = np.sort(np.round(values, 4))
    ordered = np.unique(ordered)
    calibrated = Calibration(kind="platt", slope=slope, threshold=threshold).apply(ordered)
    assert (np.diff(calibrated) > 0).all()


class TestRecord:
    def test_round_trip_through_json_applies_to_the_last_bit(self):
        targets, logits = overconfident(6)
        point = choose("youden", targets, logits)
        for calibration in (fit_platt(targets, logits, point), fit_isotonic(targets, logits), IDENTITY):
            again = Calibration.from_dict(json.loads(json.dumps(calibration.to_dict())))
            assert again == calibration
            assert (again.apply(logits) == calibration.apply(logits)).all()

    def test_intercept_is_that_of_the_usual_spelling(self):
        calibration = Calibration(kind="platt", slope=0.5, threshold=2.0)
        assert calibration.apply(3.0) == 0.5 * 3.0 + calibration.intercept

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"kind": "magic"}, "expected one of none, platt"),
            ({"slope": 0.0}, "slope of at least"),
            ({"slope": 1e308}, "at most 1000"),
            ({"kind": "temperature", "threshold": 50.0}, "a threshold belongs to platt"),
            ({"kind": "none", "slope": 2.0}, "a slope belongs to platt and temperature"),
            ({"kind": "isotonic", "knots": [[-1, 8], [1, -8]]}, "never fall in the calibrated one"),
            ({"kind": "isotonic", "knots": [[3, 8], [-3, -8], [1, 5]]}, "knots that rise in the raw logit"),
            ({"kind": "isotonic", "knots": [[0, 0], [5e-324, 1e9]]}, "knots that rise in the raw logit"),
            ({"slope": "steep"}, "not of its kind"),
            ({"knots": 3}, "not of its kind"),
            ({"slope": float("nan")}, "finite numbers"),
            ({"knots": [[0, 1]]}, "knots belong to isotonic"),
            ({"extra": 1}, "expected the keys"),
        ],
    )
    def test_records_no_fit_can_give_are_refused(self, change, message):
        with pytest.raises(UsageError, match=message):
            Calibration.from_dict({**Calibration(kind="platt").to_dict(), **change})

    @given(
        st.sampled_from(["none", "platt", "temperature", "isotonic"]),
        st.floats(-1e4, 1e4),
        st.floats(-1e13, 1e13),
        st.lists(st.tuples(st.floats(-1e13, 1e13), st.floats(-1e13, 1e13)), max_size=5),
        st.booleans(),
        st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=20),
    )
    def test_F4_of_every_map_that_a_file_may_hold_the_probability_never_falls_while_the_logit_rises(
        self, kind, slope, threshold, knots, ordered, logits
    ):
        if ordered and knots:
            knots = list(zip(*(sorted(part) for part in zip(*knots, strict=True)), strict=True))
        record = {"kind": kind, "slope": slope if kind in ("platt", "temperature") else 1.0, "knots": knots}
        record |= {"threshold": threshold if kind == "platt" else 0.0}
        problems = []
        calibration = from_plain(Calibration, record, problems)
        if problems:
            return
        event("taken " + kind)
        raw = np.sort(np.array([*logits, *(x for x, _ in calibration.knots), calibration.threshold]))
        with np.errstate(all="raise", under="ignore"):
            probability = answer(raw[:, None], "binary", [calibration.threshold], task_of(calibration)).probabilities[
                :, 0
            ]
        assert (np.diff(probability) >= 0).all()
        assert np.isfinite(probability).all() and probability.min() >= 0 and probability.max() <= 1
        if kind == "platt":
            assert ((probability >= 0.5) == (raw >= threshold)).all(), "it contradicts no decision"
