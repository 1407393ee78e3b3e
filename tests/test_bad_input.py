"""Labels and tables that cannot work: one clear line and exit code 2, before any backbone is loaded."""

import csv

import pytest

from anymc3d.cli.main import main
from anymc3d.files.tables import read_table


@pytest.fixture
def no_backbone(monkeypatch):
    """Whoever loads a backbone here ends with an internal error, exit code 1."""

    def loaded(*_args, **_kwargs):
        raise AssertionError("a backbone was loaded")

    for name in ("train.start.find_backbone", "predict.resident.find_backbone"):
        monkeypatch.setattr(f"anymc3d.{name}", loaded)
    monkeypatch.setattr("anymc3d.predict.resident.find_by_fingerprint", loaded)


def write(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def manifest(journey, path, change=lambda index, row: row):
    """The journey's manifest with absolute paths, each row as ``change(index, row)`` makes it."""
    rows = [{**row, "image": str(journey.data / row["image"])} for row in read_table(journey.data / "manifest.csv")]
    return write(path, [change(index, row) for index, row in enumerate(rows)])


def refused(capsys, *words):
    """Run a command that must be refused; its lines on stderr."""
    capsys.readouterr()
    assert main([str(word) for word in words]) == 2
    said = capsys.readouterr()
    assert "Traceback" not in said.err and "internal error" not in said.err
    assert said.err.startswith("error: ")
    return said.err.splitlines()


def label(value, *positions):
    """Give the rows at ``positions`` (default: all) this label."""
    return lambda index, row: {**row, "block": value} if not positions or index in positions else row


def with_split(index, row):
    """Training rows all of one class."""
    return {**row, "split": ["train", "val"][index % 2]}


MANIFESTS = {
    "a label outside its set": (label("maybe", 3), "row 5: case 'case03': block is 'maybe', expected 0 or 1"),
    "an all-missing label": (label(""), None),
    "one class in all": (label("1"), "no case of 'block' has the class '0', which cannot be learnt"),
    "a class missing from train": (with_split, "split 'train': no case of 'block' has the class '1'"),
    "no label column": (
        lambda _, row: {**{k: v for k, v in row.items() if k != "block"}, "blok": row["block"]},
        "no label column 'block', did you mean 'blok'?",
    ),
}


@pytest.mark.parametrize("folds", [(), ("--folds", "2")], ids=["train", "folds"])
@pytest.mark.parametrize("fault", MANIFESTS)
def test_B14_labels_that_cannot_be_learnt_end_training_before_the_backbone(
    journey, no_backbone, tmp_path, capsys, fault, folds
):
    change, message = MANIFESTS[fault]
    path = manifest(journey, tmp_path / "m.csv", change)
    if folds and fault == "a class missing from train":
        path = manifest(journey, path, lambda index, row: {**row, "fold": str(index % 2)})
    lines = refused(capsys, "train", journey.task, "-o", tmp_path / "run", f"data.manifest={path}", *folds)
    if message is None:
        message = "expected cases with labels"
    assert sum(message in line for line in lines) >= 1, lines
    assert not list((tmp_path / "run").glob("**/plugin.safetensors"))


@pytest.mark.parametrize("folds", [(), ("--folds", "2")], ids=["train", "folds"])
@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.epoch=3", "train.epoch: unknown key, did you mean 'epochs'?"),
        ("epochs=3", "epochs: unknown key"),
        ("train.epochs=three", "train.epochs: expected an integer, got text 'three'"),
        ("train.epochs", "override 'train.epochs': expected key=value"),
    ],
)
def test_A12_an_override_that_is_none_is_named_before_the_backbone(
    journey, no_backbone, tmp_path, capsys, override, message, folds
):
    lines = refused(capsys, "train", journey.task, "-o", tmp_path / "run", override, *folds)
    assert len(lines) == 2 and message in lines[1], lines
    assert not (tmp_path / "run").exists()


def test_B14_a_one_class_validation_or_test_set_is_said_before_the_backbone(journey, no_backbone, tmp_path, caplog):
    """Training can go on without it, so it is a warning, but the figures that will be missing are named first."""

    def change(index, row):
        return {
            **row,
            "split": ["train", "train", "val", "test"][index % 4],
        }  # odd rows are positive: val none, test all

    path = manifest(journey, tmp_path / "m.csv", change)
    assert main(["train", str(journey.task), "-o", str(tmp_path / "run"), f"data.manifest={path}"]) == 1
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert any(
        line.startswith("split 'val': no case of 'block' has the class '1': its AUROC is undefined") for line in said
    )
    assert any(
        line.startswith("split 'test': no case of 'block' has the class '0': its AUROC will be") for line in said
    )


@pytest.fixture
def tables(journey, tmp_path):
    """Predictions of the journey's validation rows and a manifest of them."""
    rows = [row for row in read_table(journey.run / "manifest.csv") if row["split"] == "val"]
    for row in rows:
        row["image"] = "absent.nii.gz"
    predictions = tmp_path / "predictions.csv"
    predictions.write_bytes((journey.run / "predictions.val.csv").read_bytes())
    return predictions, rows, tmp_path / "m.csv"


def commands(journey, predictions, path, out):
    yield ("evaluate", predictions, path, "-o", out / "figures")
    yield ("calibrate", "-p", journey.plugin, predictions, path, "-o", out / "new.safetensors")


TABLES = {
    "a label outside its set": (lambda _, row: {**row, "block": "7"}, "block"),
    "an all-missing label": (lambda _, row: {**row, "block": ""}, "block"),
    "the plugin's label is not in the manifest": (
        lambda _, row: {**{k: v for k, v in row.items() if k != "block"}, "lesion": row["block"]},
        "the manifest has no label column 'block'",
    ),
}


@pytest.mark.parametrize("fault", TABLES)
def test_B14_evaluate_and_calibrate_refuse_labels_they_cannot_use(
    journey, no_backbone, tables, tmp_path, capsys, fault
):
    change, message = TABLES[fault]
    predictions, rows, path = tables
    write(path, [change(index, row) for index, row in enumerate(rows)])
    for words in commands(journey, predictions, path, tmp_path):
        lines = refused(capsys, *words)
        assert len(lines) == 1 and message in lines[0], lines
    assert not (tmp_path / "figures").exists() and not (tmp_path / "new.safetensors").exists()


def test_B14_a_single_wrong_cell_is_named_with_its_case(journey, no_backbone, tables, tmp_path, capsys):
    predictions, rows, path = tables
    write(path, [{**row, "block": "7" if index == 2 else row["block"]} for index, row in enumerate(rows)])
    for words in commands(journey, predictions, path, tmp_path):
        lines = refused(capsys, *words)
        assert len(lines) == 2 and f"case {rows[2]['case']!r}: block is '7', expected 0 or 1" in lines[1], lines


def test_B14_one_class_is_a_warning_of_evaluate_and_an_error_of_calibrate(
    journey, no_backbone, tables, tmp_path, capsys
):
    predictions, rows, path = tables
    write(path, [{**row, "block": "1", "split": "test"} for row in rows])
    evaluated, calibrated = commands(journey, predictions, path, tmp_path)
    assert main([str(word) for word in evaluated]) == 0
    said = f"block: the test rows have one outcome only ({len(rows)} positive of {len(rows)}): AUROC and others"
    assert said in capsys.readouterr().err
    (line,) = refused(capsys, *calibrated, "--split", "test")
    assert "nothing to fit: no label has both outcomes in the test rows" in line


@pytest.mark.parametrize("column", ["logit.block", "probability.block", "decision.block"])
def test_unequal_columns_of_a_label_are_named(journey, no_backbone, tables, tmp_path, capsys, column):
    predictions, rows, path = tables
    write(path, rows)
    write(predictions, [{k: v for k, v in row.items() if k != column} for row in read_table(predictions)])
    for words in commands(journey, predictions, path, tmp_path):
        (line,) = refused(capsys, *words)
        assert column in line or "expected the labels of the plugin, block" in line


def test_a_logit_column_without_its_others_is_no_label_to_pass_over(journey, no_backbone, tables, tmp_path, capsys):
    predictions, rows, path = tables
    write(path, rows)
    write(predictions, [{**row, "logit.other": "0.5"} for row in read_table(predictions)])
    for words in commands(journey, predictions, path, tmp_path):
        (line,) = refused(capsys, *words)
        assert "other" in line


def test_members_of_other_labels_make_no_ensemble(journey, no_backbone, tmp_path, capsys):
    from dataclasses import replace

    from anymc3d.plugins import load_plugin, save_plugin

    plugin = load_plugin(journey.plugin)
    other = replace(plugin.card, labels=replace(plugin.card.labels, columns=("lesion",)))
    save_plugin(tmp_path / "other.safetensors", other, plugin.tensors)
    lines = refused(
        capsys, "ensemble", journey.plugin, tmp_path / "other.safetensors", "-o", tmp_path / "e.safetensors"
    )
    assert len(lines) == 2 and "labels" in lines[1], lines
    assert not (tmp_path / "e.safetensors").exists()


def test_out_of_memory_while_training_is_one_line_that_names_what_needs_less(journey, tmp_path, capsys, monkeypatch):
    import torch

    def steps_end_with(error):
        def step(*_args, **_kwargs):
            raise error

        monkeypatch.setattr("anymc3d.train.loop._step", step)

    words = ("train", journey.task, "-o", tmp_path / "run", "--device", "cpu", "--quiet")
    cpu = RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes")
    for error in (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), cpu):
        steps_end_with(error)
        (line,) = refused(capsys, *words)
        for name in ("not enough memory on cpu", "train.recompute=true", "train.chunk_size=16", "train.batch_size=1"):
            assert name in line
    steps_end_with(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert main([str(word) for word in words]) == 1


def test_C12_prediction_halves_its_chunk_where_memory_ends_and_answers_the_same(journey, tmp_path, monkeypatch, caplog):
    from anymc3d.models.vit import VisionTransformer
    from anymc3d.predict.predictor import load

    caplog.set_level("WARNING")
    calm = load(journey.plugin, device="cpu").predict(journey.scans[0])
    forward, sizes = VisionTransformer.forward, []

    def small(self, slices, *args, **kwargs):
        sizes.append(len(slices))
        if len(slices) > 1:
            raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 99 bytes.")
        return forward(self, slices, *args, **kwargs)

    monkeypatch.setattr(VisionTransformer, "forward", small)
    found = load(journey.plugin, device="cpu").predict(journey.scans[0])
    assert found.logits["block"] == pytest.approx(calm.logits["block"], abs=1e-5)
    assert min(sizes) == 1 < max(sizes)
    assert "not enough memory for 64 slices at once, tried again with 32" in caplog.text


def test_out_of_memory_in_one_case_is_its_row(journey, tmp_path, monkeypatch, capsys):
    def full(*_args, **_kwargs):
        raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 99 bytes.")

    monkeypatch.setattr("anymc3d.predict.multi_plugin.encode_together", full)
    words = ["predict", "-p", str(journey.plugin), "-i", str(journey.scans[0]), "-o", str(tmp_path / "out")]
    assert main([*words, "--device", "cpu", "--quiet"]) == 4
    assert capsys.readouterr().out == ""
    (row,) = read_table(tmp_path / "out" / "predictions.csv")
    assert row["status"] == "error" and "more memory is needed, also with --chunk-size 1" in row["message"]
