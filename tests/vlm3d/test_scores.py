"""The challenge's figures: equal to scikit-learn and to CRG worked by hand, with the challenge's own conventions."""

import json

import numpy as np
import pytest
from sklearn import metrics as sk

from anymc3d.cli.main import main
from anymc3d.errors import ManifestError, UsageError
from anymc3d.files.tables import write_table
from anymc3d.vlm3d.labels import LABELS
from anymc3d.vlm3d.results import exam_key, read_results, results_document
from anymc3d.vlm3d.scores import align, challenge_metrics, crg_record, read_truth


def exams(n=60, seed=0):
    """Targets and probabilities (n, 18) with ties; label 3 has no positive, label 5 no negative, label 7 no call."""
    rng = np.random.default_rng(seed)
    targets = (rng.random((n, len(LABELS))) < 0.3).astype(float)
    probabilities = np.round(np.clip(0.3 * targets + rng.random(targets.shape) * 0.8, 0, 1), 2)
    targets[:, 3], targets[:, 5] = 0, 1
    probabilities[:, 7] *= 0.4
    return targets, probabilities


def write_results(path, probabilities, names=None, wrap=lambda document: document):
    names = names or [f"valid_{i}_a_1" for i in range(len(probabilities))]
    answers = {
        name: dict(zip(LABELS, row.tolist(), strict=True)) for name, row in zip(names, probabilities, strict=True)
    }
    path.write_text(json.dumps(wrap(results_document(answers))))
    return path


def write_truth(path, targets, names=None, columns=LABELS):
    names = names or [f"valid_{i}_a_1" for i in range(len(targets))]
    rows = [
        {"AccessionNo": name, **dict(zip(columns, row.astype(int).tolist(), strict=True))}
        for name, row in zip(names, targets, strict=True)
    ]
    write_table(path, ["AccessionNo", *columns], rows)
    return path


def test_every_figure_equals_scikit_learn():
    targets, probabilities = exams()
    found = challenge_metrics(targets, probabilities)["classification"]
    called = (probabilities >= 0.5).astype(int)
    for i, (label, row) in enumerate(zip(LABELS, found["per_pathology"], strict=True)):
        pair = (targets[:, i], called[:, i])
        expected = {
            "precision": sk.precision_score(*pair, zero_division=0),
            "recall": sk.recall_score(*pair, zero_division=0),
            "f1": sk.f1_score(*pair, zero_division=0),
            "accuracy": sk.accuracy_score(*pair),
        }
        assert row["name"] == label
        assert {key: row[key] for key in expected} == pytest.approx(expected, abs=1e-12)
        if i in (3, 5):
            assert row["auroc"] is None
        else:
            assert row["auroc"] == pytest.approx(sk.roc_auc_score(targets[:, i], probabilities[:, i]), abs=1e-12)
    for key in ("precision", "recall", "f1", "accuracy", "auroc"):
        values = [row[key] for row in found["per_pathology"] if row[key] is not None]
        assert found["macro"][key] == pytest.approx(np.mean(values), abs=1e-12)
    assert len([row for row in found["per_pathology"] if row["auroc"] is not None]) == 16


def test_the_file_has_exactly_the_keys_of_the_challenge(tmp_path):
    targets, probabilities = exams()
    results, truth = write_results(tmp_path / "r.json", probabilities), write_truth(tmp_path / "t.csv", targets)
    assert main(["vlm3d", "evaluate", str(results), str(truth), "-o", str(tmp_path / "metrics.json"), "--quiet"]) == 0
    found = json.loads((tmp_path / "metrics.json").read_text())
    assert list(found) == ["classification", "crg"]
    assert list(found["classification"]) == ["per_pathology", "macro"]
    figures = ["precision", "recall", "f1", "accuracy", "auroc"]
    assert [list(row) for row in found["classification"]["per_pathology"]] == [["name", *figures]] * 18
    assert list(found["classification"]["macro"]) == figures
    assert list(found["crg"]) == ["TP", "FN", "FP", "X", "A", "r", "U", "score_s", "CRG"]
    assert found == json.loads(json.dumps(challenge_metrics(targets, probabilities)))


def test_crg_worked_by_hand():
    """X = 10, A = 2, so r = (10 - 2) / 4 = 2 and U = 4. One hit, one miss, one false alarm: s = 2 - 2 - 1 = -1."""
    targets = np.array([1, 1, 0, 0, 0, 0, 0, 0, 0, 0.0])
    decisions = np.array([1, 0, 1, 0, 0, 0, 0, 0, 0, 0.0])
    expected = {"TP": 1, "FN": 1, "FP": 1, "X": 10, "A": 2, "r": 2.0, "U": 4.0, "score_s": -1.0, "CRG": 4 / 9}
    assert crg_record(targets, decisions) == expected


@pytest.mark.parametrize("share", [0.05, 0.3, 0.5, 0.9])
def test_crg_of_perfect_is_one_and_of_all_or_nothing_one_third(share):
    targets = (np.arange(200) < 200 * share).astype(float)
    assert crg_record(targets, targets)["CRG"] == pytest.approx(1)
    assert crg_record(targets, np.zeros(200))["CRG"] == pytest.approx(1 / 3)
    assert crg_record(targets, np.ones(200))["CRG"] == pytest.approx(1 / 3)


def test_crg_without_positives_is_an_error_and_without_negatives_zero():
    with pytest.raises(UsageError, match="CRG is undefined: none of the 5 cells"):
        crg_record(np.zeros(5), np.ones(5))
    assert crg_record(np.ones(5), np.ones(5))["CRG"] == 0.0


def test_one_half_is_positive():
    targets, probabilities = np.ones((1, 18)), np.full((1, 18), 0.5)
    assert challenge_metrics(targets, probabilities)["crg"]["TP"] == 18


WRAPPED = {
    "as written": lambda document: document,
    "a plain list": lambda document: document["predictions"],
    "by the platform": lambda document: [{"outputs": [{"value": document}]}],
}


@pytest.mark.parametrize("form", WRAPPED)
def test_results_are_read_in_every_form_they_come_back_in(form, tmp_path):
    _, probabilities = exams(n=5)
    found = read_results(write_results(tmp_path / "r.json", probabilities, wrap=WRAPPED[form]))
    assert found.warnings == ()
    read = np.array([[scores[label] for label in LABELS] for scores in found.probabilities.values()])
    assert (read == probabilities).all()


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("valid_1_a_1", "valid_1_a_1"),
        ("valid_1_a_1.nii", "valid_1_a_1"),
        ("valid_1_a_1.nii.gz", "valid_1_a_1"),
        ("exam.2", "exam"),
    ],
)
def test_the_exam_is_its_name_without_the_last_extension_and_without_nii(name, key):
    assert exam_key(name) == key


def test_a_missing_label_counts_zero_and_a_wrong_name_is_told_with_the_nearest(tmp_path):
    def renamed(document):
        for prediction in document["predictions"]:
            prediction["probabilities"]["Lung nodules"] = prediction["probabilities"].pop("Lung nodule")
        return document

    _, probabilities = exams(n=3)
    targets = np.ones((3, 18))
    found = read_results(write_results(tmp_path / "r.json", probabilities, wrap=renamed))
    assert "'Lung nodules' is none of the labels and is left out, did you mean 'Lung nodule'?" in found.warnings[0]
    assert "counted as 0.0: Lung nodule in 3 of 3 exams" in found.warnings[1]
    values, _ = align(read_truth(write_truth(tmp_path / "t.csv", targets)), found.probabilities)
    assert (values[:, LABELS.index("Lung nodule")] == 0).all()


def test_a_missing_exam_is_one_error_that_names_it_and_one_too_many_a_warning(tmp_path):
    targets, probabilities = exams(n=4)
    found = read_results(write_results(tmp_path / "r.json", probabilities[:3])).probabilities
    with pytest.raises(
        UsageError, match=r"no prediction for 1 of 4 exams of the ground truth: valid_3_a_1.*every exam"
    ):
        align(read_truth(write_truth(tmp_path / "t.csv", targets)), found)
    values, warnings = align(read_truth(write_truth(tmp_path / "t.csv", targets[:2])), found)
    assert (values == probabilities[:2]).all()
    assert warnings == ["1 predicted exams are not in the ground truth: valid_2_a_1"]


def test_truth_may_name_files(tmp_path):
    targets, _ = exams(n=2)
    assert read_truth(write_truth(tmp_path / "t.csv", targets, ["a.nii.gz", "b.mha"])).exams == ("a", "b")


def test_B14_every_fault_of_the_ground_truth_is_in_one_report(tmp_path):
    targets, _ = exams(n=2)
    columns = [name if name != "Emphysema" else "Emphysma" for name in LABELS]
    with pytest.raises(ManifestError, match="no column 'Emphysema', did you mean 'Emphysma'"):
        read_truth(write_truth(tmp_path / "t.csv", targets, columns=columns))
    targets[1, 0] = 2
    with pytest.raises(ManifestError) as caught:
        read_truth(write_truth(tmp_path / "t.csv", targets, ["a", "a"]))
    assert caught.value.problems == (
        "row 3: exam 'a' is also row 2",
        "row 3: exam 'a': Medical material is '2', expected 0 or 1",
    )
    with pytest.raises(ManifestError, match="no exam"):
        read_truth(write_truth(tmp_path / "t.csv", targets[:0]))


BROKEN = {
    "not JSON": ("{", "expected JSON"),
    "no predictions": ("{}", "expected a list of predictions"),
    "an empty list": ("[]", "expected a list of predictions"),
    "another wrapping": ('[{"outputs": []}]', r"\[0\]\.outputs\[0\]\.value"),
    "scores": ('[{"input_image_name": "a", "scores": {}}]', "expected 'probabilities'.*got scores"),
    "no name": ('[{"probabilities": {}}]', "expected an object with the text 'input_image_name'"),
    "a percentage": ('[{"input_image_name": "a", "probabilities": {"Emphysema": 50}}]', "exam 'a', Emphysema.*got 50"),
    "NaN": ('[{"input_image_name": "a", "probabilities": {"Emphysema": NaN}}]', "from 0 to 1, got nan"),
    "twice": (
        '[{"input_image_name": "a.nii", "probabilities": {}}, {"input_image_name": "a", "probabilities": {}}]',
        "exam 'a' appears twice",
    ),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_broken_results_are_one_line_with_exit_code_2(fault, tmp_path, capsys):
    import re

    text, expected = BROKEN[fault]
    (tmp_path / "r.json").write_text(text)
    truth = write_truth(tmp_path / "t.csv", exams(n=1)[0])
    assert main(["vlm3d", "evaluate", str(tmp_path / "r.json"), str(truth), "-o", str(tmp_path / "m.json")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and re.search(expected, error)
    assert not (tmp_path / "m.json").exists()
