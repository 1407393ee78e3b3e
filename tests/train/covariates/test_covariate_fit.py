"""Fits of covariates against scikit-learn, and what an encoding of cells promises."""

import numpy as np
import pytest
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from anymc3d.data.covariates import fit_covariates, matrix_of, number, numbers_of
from anymc3d.errors import UsageError
from anymc3d.evaluate.covariates import CovariateModel
from anymc3d.plugins.covariates import CovariateRecord
from anymc3d.settings.config import LabelSettings
from anymc3d.settings.plain import from_plain, to_plain
from anymc3d.train.covariates.fit import STRENGTHS, AloneFit, join
from anymc3d.train.covariates.record import TrainedCovariates

BINARY = LabelSettings(columns=("y",), kind="binary", classes=("0", "1"))
GRADES = LabelSettings(columns=("y",), kind="multiclass", classes=("a", "b", "c"))
SEVERAL = LabelSettings(columns=("y", "z"), kind="multilabel")


@pytest.fixture(scope="module")
def cohort():
    """Cells, and targets that go with them."""
    rng = np.random.default_rng(5)
    age, sex = rng.normal(60, 10, 200), rng.choice(["F", "M", "D"], 200)
    odds = (age - 60) / 8 + (sex == "M") - 0.5
    truth = (rng.random(200) < 1 / (1 + np.exp(-odds))).astype(float)
    return [{"age": f"{a:.3f}", "sex": s} for a, s in zip(age, sex, strict=True)], truth[:, None]


def names(count):
    return [f"p{i}" for i in range(count)]


def test_numbers_are_those_of_scikit_learn(cohort):
    cells, _ = cohort
    columns = fit_covariates(["age", "sex"], cells)
    table = np.array([[float(row["age"]), row["sex"]] for row in cells], dtype=object)
    other = make_column_transformer((StandardScaler(), [0]), (OneHotEncoder(sparse_output=False), [1]))
    own = matrix_of(columns, cells)
    assert np.allclose(np.delete(own, [1, 5], axis=1), other.fit_transform(table).astype(float), atol=1e-9)
    assert (own[:, [1, 5]] == 0).all()
    missing, notes = numbers_of(columns, {"age": " NA ", "sex": "unknown"})
    assert missing.tolist() == [0, 1, 0, 0, 0, 1] and notes == ["covariate age is missing", "covariate sex is missing"]


def test_the_covariates_alone_are_scikit_learns_logistic_regression(cohort):
    cells, truth = cohort
    own = TrainedCovariates(["age", "sex"], cells, truth, BINARY, names(200), seed=0)
    numbers = matrix_of(own.columns, cells)
    other = LogisticRegression(C=own._fit.strength, tol=1e-10, max_iter=5000).fit(numbers, truth[:, 0])
    assert own._fit.strength in STRENGTHS
    assert np.allclose(own.alone(cells)[:, 0], other.decision_function(numbers), atol=1e-4)
    classes = np.digitize(numbers[:, 0], [-0.5, 0.5]).astype(float)
    three = AloneFit(numbers, classes[:, None], GRADES, names(200), seed=0)
    theirs = LogisticRegression(C=three.strength, tol=1e-10, max_iter=5000).fit(numbers, classes)
    assert np.allclose(three.weights, theirs.coef_, atol=1e-3) and np.isfinite(three.held_out).all()


def test_held_out_answers_know_nothing_of_their_patient(cohort):
    """Covariates of pure noise rank held-out cases by chance, however well they fit the training cases."""
    rng = np.random.default_rng(0)
    noise, truth = rng.normal(size=(60, 30)), np.repeat([0.0, 1.0], 30)
    patients = [f"p{i // 2}" for i in range(60)]
    fit = AloneFit(noise, truth[:, None], BINARY, patients, seed=0)
    inside = noise @ fit.weights[0]
    rank = lambda scores: (scores[truth == 1][:, None] > scores[truth == 0]).mean()  # noqa: E731
    assert rank(inside) > 0.7 and 0.25 < rank(fit.held_out[:, 0]) < 0.75


def test_slopes_are_those_of_scikit_learn_and_never_turn_an_answer_over(cohort):
    cells, truth = cohort
    own = TrainedCovariates(["age", "sex"], cells, truth, BINARY, names(200), seed=0)
    rng = np.random.default_rng(1)
    image = truth * 2 + rng.normal(size=(200, 1)) * 2
    alone = own._fit.held_out
    model = own.joined_held_out(image).model
    scaled = np.hstack([image / image.std(), alone / alone.std()])
    other = LogisticRegression(C=1.0, tol=1e-10, max_iter=5000).fit(scaled, truth[:, 0])
    slopes = other.coef_[0] / [image.std(), alone.std()]
    assert np.allclose([model.image[0], model.covariates[0], model.shift[0]], [*slopes, other.intercept_[0]], atol=2e-3)
    turned = own.joined_held_out(-image).model
    assert turned.image == (0.0,) and turned.covariates[0] > 0


def test_of_several_labels_each_has_its_slopes_and_of_classes_all_have_one(cohort):
    cells, truth = cohort
    rng = np.random.default_rng(2)
    two = np.hstack([truth, (rng.random((200, 1)) < 0.3).astype(float)])
    two[:20, 1] = np.nan
    own = TrainedCovariates(["age"], cells, two, SEVERAL, names(200), seed=0)
    record = own.joined_held_out(rng.normal(size=(200, 2)))
    assert len(record.model.image) == 2 and record.model.joined_on == 200
    record.check_fits(2, one_of_classes=False)
    classes = np.digitize(matrix_of(own.columns, cells)[:, :1], [-0.5, 0.5]).astype(float)
    three = TrainedCovariates(["age"], cells, classes, GRADES, names(200), seed=0)
    joined = three.joined_held_out(rng.normal(size=(200, 3)))
    assert (len(joined.model.image), len(joined.model.shift)) == (1, 3)
    with pytest.raises(UsageError, match="expected 3 labels with 3 slopes"):
        joined.check_fits(3, one_of_classes=False)


def test_one_outcome_or_a_single_patient_of_it_still_answers():
    numbers = np.arange(6.0)[:, None]
    fit = AloneFit(numbers, np.zeros((6, 1)), BINARY, names(6), seed=0)
    assert np.isfinite(fit.bias).all() and not fit.weights.any()
    model = join(fit, numbers, numbers, np.zeros((6, 1)), BINARY)
    assert model.image == (1.0,)


def test_a_record_is_strict_and_returns_as_it_was(cohort):
    cells, truth = cohort
    record = TrainedCovariates(["age", "sex"], cells, truth, BINARY, names(200), seed=0).joined_held_out(truth)
    problems = []
    assert from_plain(CovariateRecord, to_plain(record), problems) == record and not problems
    odd = to_plain(record)
    odd["model"]["weights"] = [[1.0]]
    from_plain(CovariateRecord, odd, problems)
    assert "expected 1 numbers for the weights, got 6" in problems[0]
    with pytest.raises(UsageError, match="as many labels"):
        CovariateModel(weights=((1.0,),), bias=(0.0, 0.0), image=(1.0,), covariates=(1.0,), shift=(0.0,))


def test_numbers_are_read_strictly():
    assert [number(text) for text in ("63", "-1.5e2", "1,5", "inf", "nan", "0x1")] == [63, -150, None, None, None, None]
    with pytest.raises(UsageError, match="has 60 different values"):
        fit_covariates(["id"], [{"id": f"x{i}"} for i in range(60)])
    assert fit_covariates(["category:site"], [{"site": "2"}, {"site": "1.0"}])[0].levels == ("1", "2")
