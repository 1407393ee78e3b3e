"""A label that is a number, from the manifest to plugins, predictions, metrics and reports."""

import json

import numpy as np
import pytest

from anymc3d.cli.main import main
from anymc3d.data.manifest import read_manifest
from anymc3d.files.tables import read_table, write_table
from anymc3d.plugins import load_plugin, save_plugin
from anymc3d.plugins.describe import describe
from anymc3d.plugins.ensemble import make_ensemble, warnings_of
from anymc3d.predict.predictor import load
from anymc3d.settings.task_file import read_task
from anymc3d.train.fit import fit
from anymc3d.train.quick.run import fit_quick
from anymc3d.train.quick.settings import QuickSettings
from tiny_scans import TASK

SMALL = QuickSettings(outer_folds=3, inner_folds=2, decays=(0.1,), fractions=(), repeats=2, resamples=50)
AGE = TASK.replace(
    "labels: {columns: [block], kind: binary, classes: ['0', '1']}", "labels: {columns: [age], kind: regression}"
).replace("name: block", "name: age")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Scans whose brightness goes with an age, and a weight that goes with it as well."""
    import nibabel as nib

    folder = tmp_path_factory.mktemp("numbers")
    rng = np.random.default_rng(0)
    (folder / "scans").mkdir()
    rows = []
    for index in range(30):
        age = 20 + 2 * ((index * 7) % 30)
        voxels = rng.normal(100, 10, (24, 28, 8)).astype(np.float32)
        voxels[8:16, 10 : 12 + age // 8, 2:6] += 80
        nib.save(nib.Nifti1Image(voxels, np.diag([1.0, 1.0, 3.0, 1.0])), folder / "scans" / f"c{index:02d}.nii.gz")
        row = {
            "image": f"scans/c{index:02d}.nii.gz",
            "age": str(age),
            "weight": f"{50 + age / 4 + rng.normal() * 4:.1f}",
        }
        rows.append(row | {"split": ["train", "train", "train", "val", "test"][index % 5]})
    write_table(folder / "manifest.csv", list(rows[0]), rows)
    (folder / "task.yaml").write_text(AGE)
    return folder


@pytest.fixture(scope="module")
def runs(data):
    """Run folders: frozen features, foreground measures, both with a covariate."""
    made = {}
    for name, more in (("frozen", []), ("foreground", ["method=foreground"]), ("both", ["covariates=[weight]"])):
        task = read_task(data / "task.yaml", [*more, f"name={name}"])
        made[name] = fit_quick(task, data / name, settings=SMALL, device="cpu", quiet=True).parent
    return made


def cases_of(data):
    return {case.id: case for case in read_manifest(data / "manifest.csv").cases}


@pytest.mark.parametrize("name", ["frozen", "foreground", "both"])
def test_the_plugin_answers_as_validation_said_in_the_units_of_the_manifest(data, runs, name):
    plugin = load_plugin(runs[name] / "plugin.safetensors")
    train = [float(row["age"]) for row in read_table(data / "manifest.csv") if row["split"] == "train"]
    assert plugin.card.number.center == pytest.approx(np.mean(train))
    assert plugin.card.number.spread == pytest.approx(np.std(train))
    predictor = load(runs[name] / "plugin.safetensors", device="cpu")
    rows = read_table(runs[name] / "predictions.val.csv")
    assert not [column for column in rows[0] if column.startswith(("logit.", "probability.", "decision."))]
    for row in rows:
        (found,) = predictor.predict_case(cases_of(data)[row["case"]])
        assert found.values["age"] == pytest.approx(float(row["value.age"]), abs=2e-3)
        assert not found.probabilities and "value.age" in found.row()
        if name == "both":
            assert found.image_logits["age"] == pytest.approx(float(row["image.age"]), abs=2e-3)


def test_the_report_of_a_quick_run_is_of_r2(runs):
    report = json.loads((runs["foreground"] / "quick.json").read_text())
    assert (report["metric"], report["chance"], report["out_of_fold_auroc"]) == ("R²", 0.0, [])
    found = {row["metric"]: row for row in report["out_of_fold"]}
    assert found["r2"]["value"] > 0.5 and found["mae"]["low"] <= found["mae"]["value"] <= found["mae"]["high"]
    both = json.loads((runs["both"] / "quick.json").read_text())["covariates"]
    assert both["metric"] == "MAE" and [row["what"] for row in both["answers"]] == [
        "both", "image alone", "covariates alone"
    ]  # fmt: skip


def test_commands_take_a_number_or_say_why_not(data, runs, tmp_path, capsys):
    manifest, plugins = str(data / "manifest.csv"), [str(runs[name] / "plugin.safetensors") for name in runs]
    out, results = tmp_path / "p", tmp_path / "e"
    given = [argument for plugin in plugins for argument in ("-p", plugin)]
    assert main(["predict", *given, "-i", manifest, "-o", str(out), "--device", "cpu", "--quiet"]) == 0
    assert main(["evaluate", str(out / "predictions.csv"), manifest, "-o", str(results)]) == 0
    shown = capsys.readouterr().out
    assert "MAE" in shown and "Spearman" in shown and "age: a number, in the units of the manifest" in shown
    rows = read_table(results / "metrics.csv")
    assert {row["split"] for row in rows} == {"test"} and (results / "predicted.png").exists()
    named = {row["plugin"] for row in rows if row["metric"] == "mae"}
    assert named == {"frozen", "foreground", "both", "both, image alone", "both, covariates alone"}
    assert "frozen - foreground" in {row["plugin"] for row in rows if row["metric"] == "mae_difference_p"}
    written = ["-o", str(tmp_path / "c.safetensors")]
    calibrate = ["calibrate", "-p", plugins[0], str(out / "predictions.csv"), manifest, *written]
    assert main(calibrate) == 2 and "answers a number" in capsys.readouterr().err
    path = runs["frozen"] / "plugin.safetensors"
    assert "answers a number; the training cases have 20 to" in "\n".join(describe(load_plugin(path), path))


def test_an_ensemble_is_the_weighted_mean_of_numbers(data, runs, tmp_path):
    members = [load_plugin(runs[name] / "plugin.safetensors") for name in ("frozen", "foreground")]
    card, tensors = make_ensemble(members, name="pair", weights=[1.0, 3.0])
    assert warnings_of(card) == [] and card.number is None
    save_plugin(tmp_path / "pair.safetensors", card, tensors)
    case = cases_of(data)["c07"]
    paths = [runs[name] / "plugin.safetensors" for name in ("frozen", "foreground")]
    alone = [load(path, device="cpu").predict_case(case)[0] for path in paths]
    (found,) = load(tmp_path / "pair.safetensors", device="cpu").predict_case(case)
    expected = np.average([one.values["age"] for one in alone], weights=[1, 3])
    assert found.values["age"] == pytest.approx(expected, abs=1e-4)


def test_training_by_steps_and_its_report(data, tmp_path):
    task = read_task(data / "task.yaml", ["train.epochs=2", "train.loss=huber"])
    path = fit(task, tmp_path / "run", device="cpu", quiet=True)
    plugin = load_plugin(path)
    assert plugin.card.training["loss"] == "huber" and not plugin.card.operating_points
    row = read_table(tmp_path / "run" / "predictions.val.csv")[0]
    (found,) = load(path, device="cpu").predict_case(cases_of(data)[row["case"]])
    assert found.values["age"] == pytest.approx(float(row["value.age"]), abs=5e-3)
    assert main(["report", str(tmp_path / "run"), "-o", str(tmp_path / "run.html"), "--quiet"]) == 0
    scan = str(data / "scans" / "c03.nii.gz")
    page = tmp_path / "case.html"
    assert main(["report", "-p", str(path), "-i", scan, "-o", str(page), "--device", "cpu", "--quiet"]) == 0
    assert "Predicted numbers" in page.read_text()
    explained = ["explain", "-p", str(path), "-i", scan, "-o", str(tmp_path / "x"), "--device", "cpu", "--quiet"]
    assert main(explained) == 0


def test_plan_takes_a_column_of_many_numbers_as_one_and_doctor_says_so(data, tmp_path, capsys):
    written = tmp_path / "task.yaml"
    assert main(["plan", str(data / "manifest.csv"), "--labels", "age", "-o", str(written)]) == 0
    assert read_task(written).labels.kind == "regression"
    assert main(["doctor", str(data / "manifest.csv"), "--labels", "age"]) == 0
    assert "age has 30 different numbers" in capsys.readouterr().out
