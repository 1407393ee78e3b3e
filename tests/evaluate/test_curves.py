"""Curves equal scikit-learn's, bands enclose them; pictures are written and differ with their content."""

import numpy as np
import pytest
import sklearn.metrics as sk
from sklearn.calibration import calibration_curve

from anymc3d.evaluate.command import places_of
from anymc3d.evaluate.curves import precision_recall_curve, reliability_curve, roc_curve
from anymc3d.evaluate.measures import LabelCases, Sampling
from anymc3d.evaluate.pictures import Drawn, draw_curves

SAMPLING = Sampling(num_resamples=200)


def cases(seed=0, n=150):
    rng = np.random.default_rng(seed)
    targets = (rng.random(n) < 0.4).astype(float)
    return targets, np.round(rng.normal(size=n) + targets, 1), [str(i) for i in range(n)]


def test_roc_points_equal_scikit_learn_and_its_area_is_the_auroc():
    targets, scores, patients = cases()
    curve = roc_curve(targets, scores, patients, SAMPLING)
    x, y, _ = sk.roc_curve(targets, scores, drop_intermediate=False)
    np.testing.assert_allclose(curve.x, x, atol=1e-12)
    np.testing.assert_allclose(curve.y, y, atol=1e-12)
    assert np.trapezoid(curve.y, curve.x) == pytest.approx(sk.roc_auc_score(targets, scores), abs=1e-12)


def test_precision_recall_points_equal_scikit_learn():
    targets, scores, patients = cases()
    curve = precision_recall_curve(targets, scores, patients, SAMPLING)
    precision, recall, _ = sk.precision_recall_curve(targets, scores)
    np.testing.assert_allclose(curve.x, recall[:-1][::-1], atol=1e-12)
    np.testing.assert_allclose(curve.y, precision[:-1][::-1], atol=1e-12)


def test_reliability_points_equal_scikit_learn():
    targets, scores, patients = cases()
    probabilities = 1 / (1 + np.exp(-scores))
    curve = reliability_curve(targets, probabilities, patients, SAMPLING)
    observed, predicted = calibration_curve(targets, probabilities, n_bins=15)
    np.testing.assert_allclose(curve.x, predicted, atol=1e-12)
    np.testing.assert_allclose(curve.y, observed, atol=1e-12)
    assert curve.sizes.sum() == targets.size
    assert ((curve.band.low <= curve.y + 1e-12) & (curve.y <= curve.band.high + 1e-12)).all()


def test_reliability_of_repeated_patients_claims_no_certainty_from_one_patient():
    targets, probabilities = np.array([1.0, 1.0, 0.0, 1.0]), np.array([0.91, 0.92, 0.3, 0.31])
    curve = reliability_curve(targets, probabilities, ["a", "a", "b", "c"], SAMPLING)
    assert np.isnan(curve.band.low[-1])


@pytest.mark.parametrize("make", [roc_curve, precision_recall_curve])
def test_bands_enclose_their_curve_and_narrow_with_more_cases(make):
    widths = []
    for n in (60, 600):
        targets, scores, patients = cases(1, n)
        curve = make(targets, scores, patients, SAMPLING)
        there = ~np.isnan(curve.band.low)
        on_grid = np.interp(curve.band.x[there], curve.x, curve.y)
        inside = (curve.band.low[there] - 0.03 <= on_grid) & (on_grid <= curve.band.high[there] + 0.03)
        assert inside.mean() > 0.95
        widths.append(float(np.mean(curve.band.high[there] - curve.band.low[there])))
    assert widths[1] < 0.6 * widths[0]


def test_bands_are_seeded():
    targets, scores, patients = cases()
    first, again = (roc_curve(targets, scores, patients, SAMPLING) for _ in range(2))
    np.testing.assert_array_equal(first.band.low, again.band.low)


@pytest.mark.parametrize(("kind", "num_labels"), [("roc", 1), ("pr", 4), ("reliability", 1)])
def test_pictures_are_png_of_a_readable_size(tmp_path, kind, num_labels):
    targets, scores, patients = cases()
    probabilities = 1 / (1 + np.exp(-scores))
    make = {"roc": roc_curve, "pr": precision_recall_curve, "reliability": reliability_curve}[kind]
    curve = make(targets, probabilities, patients, SAMPLING)
    drawn = [
        Drawn(f"label {i}", plugin, curve, "AUROC 0.75 (0.66 to 0.82)", 10, 4)
        for i in range(num_labels)
        for plugin in ("one", "two")
    ]
    path = tmp_path / "picture.png"
    draw_curves(path, drawn, subtitle="test split")
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG")
    assert int.from_bytes(content[16:20]) >= 800
    draw_curves(tmp_path / "other.png", drawn[:1], subtitle="test split")
    assert (tmp_path / "other.png").read_bytes() != content


def test_an_operating_point_lies_on_its_curve():
    """Its place, counted from decisions, is a point of the curve that was traced from scores."""
    rng = np.random.default_rng(3)
    targets, scores = (rng.random(60) < 0.4).astype(float), rng.normal(size=60)
    decisions = {"youden": (scores >= 0.2).astype(float), "f1": "no case of it"}
    own = LabelCases("x", np.arange(60), targets, scores, scores, decisions)
    patients = [str(i) for i in range(60)]
    for kind, trace in (("roc", roc_curve), ("pr", precision_recall_curve)):
        curve, places = trace(targets, scores, patients, SAMPLING), places_of(kind, own)
        assert list(places) == ["youden"]
        assert np.abs(np.stack([curve.x, curve.y], 1) - places["youden"]).sum(axis=1).min() < 1e-12
    assert places_of("reliability", own) == {}
