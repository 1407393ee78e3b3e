"""Metrics of a number against scikit-learn and SciPy, and what their intervals promise."""

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from anymc3d.errors import ManifestError, ProblemsError, UsageError
from anymc3d.evaluate.measures import Sampling
from anymc3d.evaluate.regression.metrics import NUMBER_METRICS, NumberCases, compare_errors, number_measures, value_of
from anymc3d.evaluate.regression.pictures import tenths
from anymc3d.evaluate.study import evaluate_study

QUICK = Sampling(num_resamples=200)


@pytest.fixture(scope="module")
def pairs():
    rng = np.random.default_rng(3)
    truth = np.round(rng.normal(60, 12, 150))
    return truth, truth * 0.7 + 15 + rng.normal(0, 6, 150)


def test_every_metric_is_scikit_learns_or_scipys(pairs):
    truth, predicted = pairs
    theirs = {
        "mae": sk.mean_absolute_error(truth, predicted),
        "rmse": sk.mean_squared_error(truth, predicted) ** 0.5,
        "mean_error": float(np.mean(predicted - truth)),
        "r2": sk.r2_score(truth, predicted),
        "pearson": stats.pearsonr(truth, predicted).statistic,
        "spearman": stats.spearmanr(truth, predicted).statistic,
        "calibration_slope": stats.linregress(predicted, truth).slope,
    }
    assert theirs.keys() == NUMBER_METRICS.keys()
    for name, value in theirs.items():
        assert value_of(name, truth, predicted).value == pytest.approx(value, rel=1e-10), name


@pytest.mark.parametrize("name", NUMBER_METRICS)
def test_a_case_that_weighs_two_is_two_cases(name, pairs):
    truth, predicted = (part[:40] for part in pairs)
    weights = np.random.default_rng(0).integers(0, 4, 40)
    weighted = NUMBER_METRICS[name](truth, predicted, weights[None].astype(float))[0]
    repeated = value_of(name, np.repeat(truth, weights), np.repeat(predicted, weights)).value
    assert weighted == pytest.approx(repeated, rel=1e-9)


def test_no_interval_excludes_its_value_and_correlations_stay_within_one(pairs):
    truth, predicted = pairs
    patients = np.array([f"p{i // 2}" for i in range(truth.size)], dtype=object)
    cases = NumberCases("age", np.arange(truth.size), truth, predicted)
    for measure in number_measures(cases, patients, QUICK):
        assert measure.interval.low <= measure.value.value <= measure.interval.high, measure.metric
        if measure.metric in ("pearson", "spearman"):
            assert measure.interval.low > -1 and measure.interval.high < 1
    bounds = {m.metric: m.interval for m in number_measures(cases, np.arange(truth.size).astype(object), QUICK)}
    theirs = stats.pearsonr(truth, predicted).confidence_interval()
    assert bounds["pearson"].low == pytest.approx(theirs.low, abs=0.03)


def test_the_paired_test_is_scipys_and_by_patient_does_not_believe_in_copies(pairs):
    truth, first = pairs
    second = first + np.random.default_rng(1).normal(0, 3, truth.size)
    alone = compare_errors(truth, first, second, [f"p{i}" for i in range(truth.size)], 0.95)
    theirs = stats.ttest_rel(np.abs(first - truth), np.abs(second - truth))
    assert alone.p_value == pytest.approx(theirs.pvalue, rel=1e-9)
    assert alone.interval.low == pytest.approx(theirs.confidence_interval().low, rel=1e-9)
    copies = [np.repeat(part, 3) for part in (truth, first, second)]
    clustered = compare_errors(*copies, [f"p{i // 3}" for i in range(3 * truth.size)], 0.95)
    assert clustered.p_value == pytest.approx(alone.p_value, rel=1e-9)


def test_what_is_undefined_says_why():
    same = np.full(5, 3.0)
    assert value_of("r2", same, np.arange(5.0)).reason == "all cases have the same number"
    assert value_of("pearson", np.arange(5.0), same).reason == "all answers are the same"
    assert "needs 3" in value_of("spearman", np.arange(2.0), np.arange(2.0)).reason
    perfect = NumberCases("y", np.arange(20), np.arange(20.0), np.arange(20.0))
    found = {m.metric: m for m in number_measures(perfect, np.arange(20).astype(object), QUICK)}
    assert found["mae"].value.value == 0 and found["mae"].interval.low is None
    assert compare_errors(same, same, same, list("abcde"), 0.95).p_value is None


def rows_of(values, **more):
    return [{"case": f"c{i}", "status": "ok", "message": "", "value.age": str(v)} | more for i, v in enumerate(values)]


def test_a_study_of_a_number_takes_test_rows_counts_failures_and_knows_groups(pairs):
    truth, predicted = pairs
    manifest = [
        {"case": f"c{i}", "patient": f"p{i}", "split": ["val", "test"][i % 2], "age": str(t), "sex": "FM"[i % 3 == 0]}
        for i, t in enumerate(truth)
    ]
    rows = rows_of(predicted)
    rows[1] = {**rows[1], "status": "error", "value.age": ""}
    from anymc3d.evaluate.study_cases import StudySettings

    study = evaluate_study(rows, manifest, settings=StudySettings(groups=("sex",), sampling=QUICK))
    (found,) = [row for row in study.rows if row["metric"] == "mae" and row["group"] == "all"]
    inside = [i for i in range(truth.size) if i % 2 and i != 1]
    assert found["value"] == pytest.approx(sk.mean_absolute_error(truth[inside], predicted[inside]))
    assert (found["n"], found["split"], found["n_positive"]) == (len(inside), "test", None)
    assert "1 of 75 test cases have no prediction" in study.warnings[0]
    assert {row["group"] for row in study.rows} == {"all", "sex=F", "sex=M"}
    with pytest.raises(ProblemsError, match="expected a finite number"):
        evaluate_study(rows_of(["x", *predicted[1:]]), manifest)
    with pytest.raises(ManifestError, match="age is 'old', expected a number"):
        evaluate_study(rows_of(predicted), [{**manifest[0], "age": "old"}, *manifest[1:]])
    with pytest.raises(UsageError, match="no case of the predictions is in the manifest"):
        evaluate_study([{**row, "case": f"x{row['case']}"} for row in rows], manifest)


def test_numbers_and_classes_may_stand_in_one_table(pairs):
    truth, predicted = pairs
    manifest = [{"case": f"c{i}", "age": str(t), "ill": str(i % 2)} for i, t in enumerate(truth)]
    numbers = rows_of(predicted, plugin="age")
    empty = {"value.age": "", "logit.ill": "", "probability.ill": "", "decision.ill": ""}
    classes = [
        {**row, **empty, "plugin": "ill", "logit.ill": "1", "probability.ill": "0.7", "decision.ill": "1"}
        for row in numbers
    ]
    study = evaluate_study([{**empty, **row} for row in numbers] + classes, manifest)
    assert {row["plugin"] for row in study.rows if row["metric"] == "mae"} == {"age"}
    assert {row["plugin"] for row in study.rows if row["metric"] == "auroc"} == {"ill"}


def test_tenths_are_means_in_the_order_of_what_was_predicted(pairs):
    truth, predicted = pairs
    middle = tenths(NumberCases("age", np.arange(150), truth, predicted))
    assert middle.shape == (10, 2) and (np.diff(middle[:, 0]) > 0).all()
    assert middle[:, 1].mean() == pytest.approx(truth.mean())
    assert len(tenths(NumberCases("age", np.arange(5), truth[:5], predicted[:5]))) == 0
