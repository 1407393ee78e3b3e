"""Every kind of task from manifest to rows of a table: classes, ordered grades, several labels, several views."""

import csv

import nibabel as nib
import numpy as np
import pytest

from anymc3d.data.manifest import read_manifest
from anymc3d.errors import ManifestError, TaskFileError
from anymc3d.evaluate.study import evaluate_rows
from anymc3d.files.tables import read_table
from anymc3d.plan import plan_task
from anymc3d.plugins import load_plugin
from anymc3d.predict.cohort import predict_cohort
from anymc3d.predict.predictor import load
from anymc3d.settings.task_file import read_task
from anymc3d.train.fit import fit

SPLITS = ["train"] * 3 + ["val", "test"]

TASK = """\
format: 1
name: tiny
labels: {labels}
data: {{manifest: manifest.csv, modality: MR}}
views:
{views}
backbone: tiny-random
train: {{epochs: 3, precision: fp32, lora_lr: 0.001, head_lr: 0.03, loss: {loss}}}
"""
ONE_VIEW = "  image: {size: [28, 28, 4], plane: axial}"
TWO_VIEWS = """\
  axial: {size: [28, 28, 4], image: image.a, plane: axial}
  side: {size: [28, 14, 3], image: image.b, plane: sagittal}"""
GRADES = "{columns: [grade], kind: KIND, classes: [none, mild, severe]}"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """30 volumes with a block of one of three brightnesses (grade) and perhaps a bright rim; two scans a case."""
    folder = tmp_path_factory.mktemp("kinds")
    rng = np.random.default_rng(4)
    rows = []
    for index in range(30):
        grade, rim = index % 3, int(rng.random() < 0.5)
        names = {}
        for view in "ab":
            voxels = rng.normal(100, 8, (20, 22, 6)).astype(np.float32)
            voxels[6:14, 8:16, 2:5] += 45 * grade
            voxels[:3] += 60 * rim
            names[view] = f"{view}{index:02d}.nii.gz"
            nib.save(nib.Nifti1Image(voxels, np.diag([1.0, 1.0, 3.0, 1.0])), folder / names[view])
        rows.append(
            {
                "case": f"c{index:02d}",
                "image.a": names["a"] if index % 7 != 3 else "",
                "image.b": names["b"] if index % 5 != 1 or index % 7 == 3 else "",
                "grade": ["none", "mild", "severe"][grade] if index != 9 else "",
                "block": int(grade > 0) if index % 4 else "",
                "rim": rim if index % 6 else "",
                "split": SPLITS[(index // 3) % 5],
            }
        )
    write(folder / "manifest.csv", rows)
    single = [
        {k: v for k, v in row.items() if k != "image.b"} | {"image.a": f"a{row['case'][1:]}.nii.gz"} for row in rows
    ]
    write(folder / "single.csv", [{"image" if k == "image.a" else k: v for k, v in row.items()} for row in single])
    return folder


def write(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def task_of(data, labels, *overrides, views=ONE_VIEW, loss="focal"):
    path = data / "task.yaml"
    path.write_text(TASK.format(labels=labels, views=views, loss=loss))
    manifest = "single.csv" if views == ONE_VIEW else "manifest.csv"
    return read_task(path, [f"data.manifest={data / manifest}", *overrides])


def trained(task, run):
    """Train, predict the test cases, and check what holds for every task: validation = prediction, all rows there."""
    plugin = fit(task, run, device="cpu", quiet=True)
    predictor = load(plugin, device="cpu")
    cases = read_manifest(task.data.manifest).cases
    rows = predict_cohort(predictor, cases, run.with_name(f"{run.name}-out"), quiet=True).rows
    assert [row["case"] for row in rows] == [case.id for case in cases]
    assert {row["status"] for row in rows} <= {"ok", "warn"}
    names = task.labels.output_names
    by_case = {row["case"]: row for row in rows}
    for row in read_table(run / "predictions.val.csv"):
        for name in names:
            assert float(row[f"logit.{name}"]) == pytest.approx(float(by_case[row["case"]][f"logit.{name}"]), abs=1e-4)
            assert row[f"decision.{name}"] == by_case[row["case"]][f"decision.{name}"]
    return load_plugin(plugin), rows


def numbers(rows, what, names):
    return np.array([[float(row[f"{what}.{name}"]) for name in names] for row in rows])


@pytest.mark.parametrize("kind", ["multiclass", "ordinal"])
def test_classes_end_to_end(data, tmp_path, kind):
    task = task_of(data, GRADES.replace("KIND", kind))
    plugin, rows = trained(task, tmp_path / "run")
    names = task.labels.output_names
    assert names == ("grade=none", "grade=mild", "grade=severe")
    probability, decision = numbers(rows, "probability", names), numbers(rows, "decision", names)
    np.testing.assert_allclose(probability.sum(axis=1), 1, atol=1e-7)
    np.testing.assert_array_equal(decision, np.eye(3)[probability.argmax(axis=1)])
    logit = numbers(rows, "logit", names)
    np.testing.assert_allclose(probability, np.exp(logit) / np.exp(logit).sum(axis=1, keepdims=True), atol=1e-6)
    assert ("head.cuts" in plugin.tensors) == (kind == "ordinal")
    (best,) = {row["best_epoch"] for row in read_table(tmp_path / "run" / "log.csv")[-1:]}
    assert {row["selection"] for row in read_table(tmp_path / "run" / "log.csv")} == {"auroc"}
    assert 1 <= int(best) <= 3
    log = read_table(tmp_path / "run" / "log.csv")
    assert float(log[-1]["train_loss"]) < float(log[0]["train_loss"])


@pytest.mark.parametrize("kind", ["multiclass", "ordinal"])
def test_figures_of_classes_are_one_vs_rest(data, tmp_path, kind):
    task = task_of(data, GRADES.replace("KIND", kind), "calibration=temperature")
    plugin, rows = trained(task, tmp_path / "run")
    metrics = evaluate_rows(rows, read_table(data / "single.csv"), labels=task.labels)
    labels = {row["label"] for row in metrics if row["metric"] == "auroc"}
    assert labels == {*task.labels.output_names, "macro"}
    assert plugin.card.calibration.method == "temperature"
    val = {row["metric"]: row for row in read_table(tmp_path / "run" / "metrics.csv") if row["label"] == "macro"}
    best = max(float(row["val_auroc"]) for row in read_table(tmp_path / "run" / "log.csv"))
    assert float(val["auroc"]["value"]) == pytest.approx(best, abs=0.02)


def test_grades_are_planned_as_classes_and_become_ordinal_when_the_user_says_so(data, tmp_path):
    settings = plan_task(data / "single.csv", ["grade"]).settings
    assert settings.labels.kind == "multiclass"
    ordered = task_of(data, GRADES.replace("KIND", "multiclass"), "labels.kind=ordinal")
    assert ordered.labels.kind == "ordinal"
    with pytest.raises(TaskFileError, match="kind ordinal needs at least 3 classes"):
        task_of(data, "{columns: [block], kind: ordinal, classes: ['0', '1']}")


@pytest.mark.parametrize("loss", ["focal", "weighted-bce"])
def test_several_labels_with_missing_cells_end_to_end(data, tmp_path, loss):
    task = task_of(data, "{columns: [block, rim], kind: multilabel}", loss=loss)
    plugin, rows = trained(task, tmp_path / "run")
    probability = numbers(rows, "probability", ("block", "rim"))
    np.testing.assert_allclose(probability, 1 / (1 + np.exp(-numbers(rows, "logit", ("block", "rim")))), atol=1e-6)
    thresholds = [point["threshold"] for point in plugin.card.operating_points]
    np.testing.assert_array_equal(
        numbers(rows, "decision", ("block", "rim")), numbers(rows, "logit", ("block", "rim")) >= thresholds
    )
    table = read_table(data / "single.csv")
    counts = {
        name: [sum(row[name] == value and row["split"] == "train" for row in table) for value in "01"]
        for name in ("block", "rim")
    }
    expected = [counts[name][0] / counts[name][1] for name in ("block", "rim")]
    assert plugin.card.training.get("positive_weights") == (expected if loss == "weighted-bce" else None)


def test_any_view_may_be_missing_in_training_and_prediction(data, tmp_path):
    task = task_of(data, "{columns: [block], kind: binary, classes: ['0', '1']}", views=TWO_VIEWS)
    _, rows = trained(task, tmp_path / "run")
    table = read_table(data / "manifest.csv")
    for row, cells in zip(rows, table, strict=True):
        for column, view, other in (("image.a", "axial", "side"), ("image.b", "side", "axial")):
            said = f"view {view} is missing: predicted from {other} alone"
            assert (said in row["message"]) == (not cells[column])
    assert {bool(row["image.a"]) for row in table if row["split"] == "train"} == {True, False}


def test_views_are_left_out_at_random_and_neighbours_fill_the_channels_end_to_end(data, tmp_path):
    labels = "{columns: [block], kind: binary, classes: ['0', '1']}"
    options = ("train.view_dropout=0.5", "views.axial.input=neighbours", "train.sampling=balanced")
    task = task_of(data, labels, *options, views=TWO_VIEWS)
    plugin, _ = trained(task, tmp_path / "run")
    assert plugin.card.preprocessing["axial"].input == "neighbours"
    assert plugin.card.training["view_dropout"] == 0.5
    with pytest.raises(TaskFileError, match=r"train\.view_dropout: needs at least two views"):
        task_of(data, labels, "train.view_dropout=0.5")


@pytest.mark.parametrize("fusion", ["lstm", "lstm-mil", "transformer", "mst"])
def test_sequence_fusions_end_to_end(data, tmp_path, fusion):
    task = task_of(data, "{columns: [block], kind: binary, classes: ['0', '1']}", f"fusion={fusion}", "train.epochs=1")
    plugin, _ = trained(task, tmp_path / "run")
    assert any(name.startswith("fusion.image.") for name in plugin.tensors)


def test_accumulated_batches_are_one_larger_batch(data, tmp_path):
    labels = GRADES.replace("KIND", "multiclass")
    sizes = (("train.batch_size=4", "train.accumulate=1"), ("train.batch_size=1", "train.accumulate=4"))
    runs = []
    for number, size in enumerate(sizes):
        task = task_of(data, labels, "train.epochs=2", *size)
        fit(task, tmp_path / str(number), device="cpu", quiet=True)
        runs.append(read_table(tmp_path / str(number) / "log.csv"))
    for one, other in zip(*runs, strict=True):
        assert float(one["train_loss"]) == pytest.approx(float(other["train_loss"]), rel=1e-4)
        assert float(one["val_loss"]) == pytest.approx(float(other["val_loss"]), rel=1e-4)
        assert one["lr_factor"] == other["lr_factor"]


def test_B14_labels_that_cannot_be_learnt_are_named_before_anything_is_read(data, tmp_path):
    rows = read_table(data / "single.csv")
    write(data / "poor.csv", [row | {"rim": "", "block": "1"} for row in rows])
    task = task_of(data, "{columns: [block, rim], kind: multilabel}", f"data.manifest={data / 'poor.csv'}")
    with pytest.raises(ManifestError) as caught:
        fit(task, tmp_path / "run", device="cpu", quiet=True)
    assert "no case of 'block' has the class '0'" in str(caught.value)
    assert "'rim' is empty in every case" in str(caught.value)
