"""The evaluation folder: what is written, when it may be replaced, and that scans are never needed."""

import numpy as np
import pytest

from anymc3d.errors import ManifestError, RunFolderError, UsageError
from anymc3d.evaluate import outputs
from anymc3d.evaluate.command import evaluate_predictions, read_labels
from anymc3d.evaluate.measures import Sampling
from anymc3d.evaluate.study_cases import StudySettings
from anymc3d.files.tables import read_table, write_table

QUICK = StudySettings(sampling=Sampling(num_resamples=100))
TABLES = ("metrics.csv", "curves.csv", "table.md", "evaluation.json")
PICTURES = ("roc.png", "pr.png", "reliability.png")


@pytest.fixture
def tables(tmp_path):
    """predictions.csv and manifest.csv of 60 cases whose scans do not exist."""
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 2, 60)
    raw = rng.normal(size=(60, 1)) + targets[:, None]
    names, ids = ["tumour"], [f"c{i:02d}" for i in range(60)]
    probability, decision = outputs.probabilities(raw, "binary"), outputs.decisions(raw, "binary", [0.0])
    rows = [
        {"case": ids[i], "status": "ok"} | outputs.prediction_cells(names, raw[i], probability[i], decision[i])
        for i in range(60)
    ]
    write_table(tmp_path / "predictions.csv", outputs.prediction_columns(names), rows)
    cells = [
        {
            "image": f"scans/{name}.nii.gz",
            "split": ["val", "test"][i % 2],
            "sex": "FM"[i // 2 % 2],
            "tumour": targets[i],
        }
        for i, name in enumerate(ids)
    ]
    write_table(tmp_path / "manifest.csv", list(cells[0]), cells)
    return tmp_path / "predictions.csv", tmp_path / "manifest.csv"


def test_writes_tables_and_pictures_without_any_scan(tables, tmp_path):
    out = tmp_path / "out"
    study = evaluate_predictions(*tables, out, settings=QUICK)
    assert {path.name for path in out.iterdir()} >= {*TABLES, *PICTURES}
    rows = read_table(out / "metrics.csv")
    assert len(rows) == len(study.rows)
    header = (out / "metrics.csv").read_text(encoding="utf-8").splitlines()[0]
    expected = "metric,label,group,split,plugin,operating_point,value,ci_low,ci_high,ci_method,n,n_positive,reason"
    assert header == expected
    assert "Research use only" in (out / "table.md").read_text(encoding="utf-8")
    assert {row["curve"] for row in read_table(out / "curves.csv")} == {"roc", "pr", "reliability"}


def test_I7_running_again_gives_the_same_bytes(tables, tmp_path, drawn):
    evaluate_predictions(*tables, tmp_path / "a", settings=QUICK)
    first = {name: (tmp_path / "a" / name).read_bytes() for name in (*TABLES, *PICTURES)}
    assert len({first[name] for name in PICTURES}) == len(PICTURES)
    evaluate_predictions(*tables, tmp_path / "a", settings=QUICK)
    evaluate_predictions(*tables, tmp_path / "b", settings=QUICK)
    for folder in ("a", "b"):
        assert {name: (tmp_path / folder / name).read_bytes() for name in first} == first


def test_a_folder_of_other_inputs_is_refused_and_replaced_only_when_asked(tables, tmp_path):
    predictions, manifest = tables
    out = tmp_path / "out"
    evaluate_predictions(predictions, manifest, out, settings=QUICK)
    before = (out / "metrics.csv").read_bytes()
    rows = read_table(manifest)
    write_table(manifest, list(rows[0]), [{**row, "tumour": 1 - int(row["tumour"])} for row in rows])
    with pytest.raises(RunFolderError, match=r"manifest was.*--overwrite"):
        evaluate_predictions(predictions, manifest, out, settings=QUICK)
    assert (out / "metrics.csv").read_bytes() == before
    evaluate_predictions(predictions, manifest, out, settings=QUICK, overwrite=True)
    assert (out / "metrics.csv").read_bytes() != before


def test_a_folder_of_something_else_is_never_touched(tables, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "metrics.csv").write_text("somebody's own")
    with pytest.raises(RunFolderError, match=r"holds metrics\.csv"):
        evaluate_predictions(*tables, out, settings=QUICK, overwrite=True)
    assert (out / "metrics.csv").read_text() == "somebody's own"


def test_bad_input_leaves_no_folder_behind(tables, tmp_path):
    with pytest.raises(UsageError):
        evaluate_predictions(*tables, tmp_path / "out", settings=StudySettings(groups=("nothing",)))
    assert not (tmp_path / "out").exists()


def test_B14_one_class_test_set_has_figures_but_no_curve(tables, tmp_path):
    predictions, manifest = tables
    out = tmp_path / "out"
    evaluate_predictions(predictions, manifest, out, settings=QUICK)
    rows = read_table(manifest)
    write_table(manifest, list(rows[0]), [{**r, "tumour": 0} if r["split"] == "test" else r for r in rows])
    study = evaluate_predictions(predictions, manifest, out, settings=QUICK, overwrite=True)
    assert not (out / "roc.png").exists()
    auroc = next(row for row in study.rows if row["metric"] == "auroc")
    assert auroc["value"] is None
    text = (out / "table.md").read_text(encoding="utf-8")
    assert "auroc of tumour (all) is undefined: needs both outcomes" in text


def test_nothing_to_evaluate_is_one_clear_line(tables, tmp_path):
    predictions, manifest = tables
    rows = read_table(manifest)
    write_table(manifest, list(rows[0]), [{**r, "tumour": ""} if r["split"] == "test" else r for r in rows])
    with pytest.raises(UsageError, match="nothing to evaluate: no test case has both a prediction and a label"):
        evaluate_predictions(predictions, manifest, tmp_path / "out", settings=QUICK)


class TestReadLabels:
    def test_a_manifest_without_images_is_enough_when_it_names_its_cases(self, tmp_path):
        path = tmp_path / "labels.csv"
        write_table(path, ["case", "tumour"], [{"case": "a", "tumour": 1}])
        assert read_labels(path) == [{"case": "a", "patient": "a", "tumour": "1"}]

    def test_cases_without_id_get_that_of_prediction(self, tmp_path):
        path = tmp_path / "manifest.csv"
        write_table(path, ["image", "patient", "y"], [{"image": "x/scan7.nii.gz", "patient": "p", "y": 0}])
        assert read_labels(path) == [{"case": "scan7", "patient": "p", "y": "0"}]

    def test_faults_that_matter_are_still_found(self, tmp_path):
        path = tmp_path / "manifest.csv"
        write_table(path, ["case", "split", "y"], [{"case": "a", "split": "testing", "y": 0}, {"case": "a", "y": 1}])
        with pytest.raises(ManifestError) as caught:
            read_labels(path)
        assert "did you mean 'test'" in str(caught.value)
        assert "is also row 2" in str(caught.value)

    def test_neither_case_nor_image_is_refused(self, tmp_path):
        path = tmp_path / "manifest.csv"
        write_table(path, ["y"], [{"y": 0}])
        with pytest.raises(ManifestError):
            read_labels(path)
