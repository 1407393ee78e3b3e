"""The parts that learn a number, against what they come to in closed form."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from anymc3d.data.labels import encode, guess_labels, strata
from anymc3d.data.manifest import Manifest
from anymc3d.errors import ManifestError, UsageError
from anymc3d.evaluate.influence import r2_influence
from anymc3d.evaluate.regression.scale import UNIT, scale_of
from anymc3d.settings.config import LabelSettings
from anymc3d.settings.training import TrainSettings
from anymc3d.train.covariates.fit import AloneFit, join
from anymc3d.train.losses import make_loss
from anymc3d.train.ridge.learner import RidgeLearner
from anymc3d.train.selection import beats_start, score_validation

AGE = LabelSettings(columns=("age",), kind="regression")


def names(count):
    return [f"p{i}" for i in range(count)]


def test_losses_are_torchs_on_standardised_targets_and_leave_out_what_is_missing():
    targets = np.array([[20.0], [40.0], [np.nan], [90.0]])
    answers = torch.tensor([[0.1], [-0.3], [5.0], [0.2]])
    standard = torch.from_numpy(scale_of(targets).standard(targets)).float()
    known = [0, 1, 3]
    for name, theirs in (("mse", torch.nn.MSELoss()), ("huber", torch.nn.HuberLoss())):
        loss = make_loss(TrainSettings(loss=name), AGE, targets)(answers, torch.from_numpy(targets))
        factor = 0.5 if name == "mse" else 1.0
        expected = factor * float(theirs(answers[known], standard[known]))
        assert float(loss.total / loss.count) == pytest.approx(expected, rel=1e-5)
    with pytest.raises(UsageError, match="a number takes mse, huber, got 'focal'"):
        make_loss(TrainSettings(loss="focal"), AGE, targets)
    with pytest.raises(UsageError, match="mse is of numbers"):
        make_loss(TrainSettings(loss="mse"), LabelSettings(columns=("y",), kind="binary", classes=("0", "1")), targets)


def test_an_epoch_is_better_by_its_loss():
    rng = np.random.default_rng(0)
    targets = rng.normal(size=(60, 1))
    loss = make_loss(TrainSettings(), AGE, targets, UNIT)
    near, far = targets + 0.1 * rng.normal(size=(60, 1)), targets + rng.normal(size=(60, 1))
    assert beats_start(near, far, targets, None, AGE, loss) and not beats_start(far, near, targets, None, AGE, loss)
    assert score_validation(targets, near, AGE, 0.25).value == -0.25


def test_a_plain_learner_is_ridge_regression_that_chooses_its_penalty():
    rng = np.random.default_rng(1)
    numbers = rng.normal(size=(80, 6)).astype(np.float32)
    truth = (numbers @ [1, -1, 0.5, 0, 0, 0] + 0.3 * rng.normal(size=80))[:, None]
    rows = np.arange(80)
    learner = RidgeLearner(numbers, truth, AGE, names(80))
    (found,) = learner.path(rows, rows)
    fit = learner.head(rows)
    scaled = (numbers - fit.center) / fit.spread / 6**0.5
    plain = Ridge(alpha=learner.penalty(rows)).fit(scaled, truth[:, 0]).predict(scaled)
    assert abs(np.corrcoef(found[:, 0], plain)[0, 1]) > 1 - 1e-6
    assert np.mean((learner.held_out(rows)[:, 0] - truth[:, 0]) ** 2) < 0.3 * truth.var()


def test_covariates_of_a_number_are_ridge_and_least_squares_with_slopes_of_zero_or_more():
    rng = np.random.default_rng(2)
    numbers = rng.normal(size=(90, 3))
    truth = (numbers @ [1.0, 0.5, 0.0] + 0.5 * rng.normal(size=90))[:, None]
    fit = AloneFit(numbers, truth, AGE, names(90), seed=0)
    theirs = Ridge(alpha=1 / fit.strength).fit(numbers, truth[:, 0])
    assert np.allclose(fit.weights[0], theirs.coef_) and fit.bias[0] == pytest.approx(theirs.intercept_)
    image = truth + rng.normal(size=(90, 1))
    model = join(fit, image, fit.held_out, truth, AGE)
    assert model.image[0] > 0 and model.covariates[0] > 0
    both = model.both(image, fit.held_out)
    assert np.mean((both - truth) ** 2) < min(np.mean((image - truth) ** 2), np.mean((fit.held_out - truth) ** 2))
    assert join(fit, -image, fit.held_out, truth, AGE).image == (0.0,)


def test_the_error_of_a_difference_of_r2_is_that_of_paired_squared_errors():
    rng = np.random.default_rng(3)
    truth = rng.normal(size=200)
    first, second = truth + 0.5 * rng.normal(size=200), truth + 0.6 * rng.normal(size=200)
    found = r2_influence(truth, first) - r2_influence(truth, second)
    paired = (np.square(second - truth) - np.square(first - truth)) / truth.var()
    assert found.value == pytest.approx(paired.mean())
    assert found.standard_error(names(200)) == pytest.approx(paired.std(ddof=1) / 200**0.5)


def cases_of(values):
    from anymc3d.data.case import Case

    rest = (None, None, None, None)
    return tuple(Case(f"c{i}", f"c{i}", {"image": "x"}, {}, {"age": v}, *rest, i + 2) for i, v in enumerate(values))


def test_cells_are_read_as_numbers_and_dealt_out_by_fifths(tmp_path):
    cases = cases_of(["63.5", "", "-1e1", *map(str, range(50))])
    targets = encode(cases, AGE)
    assert targets[:3, 0].tolist()[0::2] == [63.5, -10.0] and np.isnan(targets[1, 0])
    parts = strata(targets, AGE)[:, 0]
    counts = np.bincount(parts[~np.isnan(parts)].astype(int))
    assert np.isnan(parts[1]) and len(counts) == 5 and counts.min() >= 10 and counts.max() <= 11
    with pytest.raises(ManifestError, match="age is '6,5', expected a number"):
        encode(cases_of(["6,5"]), AGE)


def test_many_numbers_are_a_number_ids_are_not():
    from pathlib import Path

    def guessed(values):
        return guess_labels(Manifest(Path("m.csv"), ("image", "age"), cases_of(values)), ["age"])

    settings, (reason,) = guessed([str(30 + 2 * i) for i in range(25)])
    assert settings == AGE and "25 different numbers from 30 to 78: a measurement" in reason
    with pytest.raises(ManifestError, match="without a gap look like identifiers"):
        guessed([str(i + 1) for i in range(25)])
    assert guessed([str(i % 4) for i in range(25)])[0].kind == "multiclass"
