"""The whole list of figures at once, as rows of metrics.csv, against scikit-learn and SciPy: labels, means, groups."""

import math

import numpy as np
import pytest
import sklearn.metrics as sk
from scipy import stats

from anymc3d.evaluate import outputs
from anymc3d.evaluate.measures import Sampling
from anymc3d.evaluate.study import evaluate_rows
from anymc3d.evaluate.study_cases import StudySettings

LABELS = ["nodule", "effusion", "stone"]
POINTS = ("youden", "sensitivity=0.9", "specificity=0.8", "f1", "crg")
ROUNDED = 1e-11
"""Tables hold twelve digits."""


def table_of(raw, plugin):
    probability, decision = outputs.probabilities(raw, "multilabel"), outputs.decisions(raw, "multilabel", [0.2] * 3)
    return [
        {"case": f"c{i}", "plugin": plugin, "status": "ok", "message": ""}
        | outputs.prediction_cells(LABELS, raw[i], probability[i], decision[i])
        for i in range(len(raw))
    ]


@pytest.fixture(scope="module")
def study():
    rng = np.random.default_rng(11)
    targets = rng.random((300, 3)) < [0.5, 0.3, 0.15]
    first = rng.normal(size=(300, 3)) + 1.4 * targets
    second = first * 0.5 + rng.normal(size=(300, 3)) + 0.5 * targets
    split = np.array(["val", "test"])[np.arange(300) % 2]
    sex = np.array(["F", "M"])[rng.integers(0, 2, 300)]
    manifest = [
        {"case": f"c{i}", "split": split[i], "sex": sex[i]}
        | {name: str(int(value)) for name, value in zip(LABELS, targets[i], strict=True)}
        for i in range(300)
    ]
    settings = StudySettings(groups=("sex",), operating_points=POINTS, sampling=Sampling(num_resamples=100))
    table = table_of(first, "first") + table_of(second, "second")
    rows = evaluate_rows(table, manifest, settings=settings)
    scores = {
        "first": np.array([[float(r[f"logit.{n}"]) for n in LABELS] for r in table[:300]]),
        "second": np.array([[float(r[f"logit.{n}"]) for n in LABELS] for r in table[300:]]),
    }
    return rows, targets, scores, split, sex


def value(rows, metric, label, point="", group="all", plugin="first"):
    key = (metric, label, point, group, plugin)
    names = ("metric", "label", "operating_point", "group", "plugin")
    (row,) = [row for row in rows if tuple(row[name] for name in names) == key and row["metric"] == metric]
    return row["value"]


def expected_of(truth, score, probability, called):
    """What scikit-learn says of one label."""
    return {
        ("auroc", False): sk.roc_auc_score(truth, score),
        ("average_precision", False): sk.average_precision_score(truth, score),
        ("brier", False): sk.brier_score_loss(truth, probability),
        ("accuracy", True): sk.accuracy_score(truth, called),
        ("balanced_accuracy", True): sk.balanced_accuracy_score(truth, called),
        ("sensitivity", True): sk.recall_score(truth, called),
        ("specificity", True): sk.recall_score(truth, called, pos_label=False),
        ("f1", True): sk.f1_score(truth, called),
    }


@pytest.mark.parametrize("group", ["all", "sex=F", "sex=M"])
@pytest.mark.parametrize("point", ["plugin", *POINTS])
def test_H12_every_figure_of_every_label_mean_and_subgroup_equals_scikit_learn(study, group, point):
    rows, targets, scores, split, sex = study
    members = (split == "test") & ((group == "all") | (sex == group[-1]))
    found = []
    for j, label in enumerate(LABELS):
        threshold = 0.2 if point == "plugin" else value(rows, "threshold", label, point)
        score = scores["first"][members, j]
        found.append(expected_of(targets[members, j], score, 1 / (1 + np.exp(-score)), score >= threshold))
        for (metric, decided), wanted in found[-1].items():
            ours = value(rows, metric, label, point if decided else "", group)
            assert ours == pytest.approx(wanted, abs=1e-9 if metric == "brier" else ROUNDED), (metric, label)
    for metric, decided in found[0]:
        mean = np.mean([one[metric, decided] for one in found])
        ours = value(rows, metric, "macro", point if decided else "", group)
        assert ours == pytest.approx(mean, abs=1e-9 if metric == "brier" else ROUNDED), metric


@pytest.mark.parametrize("label", range(3))
def test_fixed_sensitivity_and_specificity_hold_on_val_and_no_other_threshold_does_better(study, label):
    rows, targets, scores, split, _ = study
    val = split == "val"
    truth, score = targets[val, label], scores["first"][val, label]

    def both(threshold):
        called = score >= threshold
        return called[truth].mean(), (~called[~truth]).mean()

    tried = [both(threshold) for threshold in [*np.unique(score), np.inf]]
    sensitivity, specificity = both(value(rows, "threshold", LABELS[label], "sensitivity=0.9"))
    assert sensitivity >= 0.9
    assert specificity == max(spec for sens, spec in tried if sens >= 0.9)
    sensitivity, specificity = both(value(rows, "threshold", LABELS[label], "specificity=0.8"))
    assert specificity >= 0.8
    assert sensitivity == max(sens for sens, spec in tried if spec >= 0.8)


def test_H12_p_values_are_delong_by_its_definition_and_holm_is_over_all_labels(study):
    rows, targets, scores, split, _ = study
    test = split == "test"
    plain = []
    for j in range(3):
        truth = targets[test, j]
        areas, parts = [], []
        for name in ("first", "second"):
            score = scores[name][test, j]
            wins = (score[truth][:, None] > score[~truth]) + 0.5 * (score[truth][:, None] == score[~truth])
            areas.append(wins.mean())
            parts.append((wins.mean(axis=1), wins.mean(axis=0)))
        covariance = sum(np.cov(parts[0][side], parts[1][side]) / len(parts[0][side]) for side in (0, 1))
        error = math.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
        plain.append(2 * stats.norm.sf(abs(areas[0] - areas[1]) / error))
    ours = [value(rows, "auroc_difference_p", name, plugin="first - second") for name in LABELS]
    assert ours == pytest.approx(plain, rel=1e-7)
    order, adjusted, largest = np.argsort(plain), np.empty(3), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (3 - rank) * plain[index]))
        adjusted[index] = largest
    holm = [value(rows, "auroc_difference_p_holm", name, plugin="first - second") for name in LABELS]
    assert holm == pytest.approx(list(adjusted), rel=1e-7)


def test_H12_pooled_crg_is_its_published_formula(study):
    rows, targets, scores, split, _ = study
    test = split == "test"
    for point in POINTS:
        thresholds = [value(rows, "threshold", name, point) for name in LABELS]
        truth, called = targets[test], scores["first"][test] >= thresholds
        cells, positives = truth.size, truth.sum()
        ratio, perfect = (cells - positives) / (2 * positives), (cells - positives) / 2
        score = ratio * (truth & called).sum() - ratio * (truth & ~called).sum() - (~truth & called).sum()
        assert value(rows, "crg", "pooled", point) == pytest.approx(perfect / (2 * perfect - score), abs=ROUNDED)
