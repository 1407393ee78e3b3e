"""Prediction: the raw file gives the logits of validation, one row for every input, one backbone for many plugins."""

import json
import os
import shutil
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch

import anymc3d
from anymc3d.data.manifest import read_manifest
from anymc3d.errors import PluginError, RunFolderError, ScanError, UsageError
from anymc3d.files.tables import read_table
from anymc3d.models.vit import VisionTransformer
from anymc3d.plugins import load_plugin, save_plugin
from anymc3d.predict.cohort import predict_cohort, read_journal
from anymc3d.predict.predictor import Predictor, load


@pytest.fixture
def predictor(journey):
    return load(journey.plugin, device="cpu")


@pytest.fixture
def second(journey, tmp_path):
    """A second plugin on the same backbone: another name, another head."""
    plugin = load_plugin(journey.plugin)
    path = tmp_path / "second.safetensors"
    tensors = dict(plugin.tensors) | {"head.bias": plugin.tensors["head.bias"] + torch.tensor([0.0, 2.0])}
    save_plugin(path, replace(plugin.card, name="second"), tensors)
    return path


def test_B15_raw_file_library_and_validation_give_the_same_logits(journey, predictor, tmp_path):
    manifest = read_manifest(journey.run / "manifest.csv")
    by_validation = {row["case"]: float(row["logit.block"]) for row in read_table(journey.run / "predictions.val.csv")}
    cases = [case for case in manifest.cases if case.split == "val"]
    rows = predict_cohort(predictor, cases, tmp_path / "out", quiet=True).rows
    assert len(rows) == len(by_validation) > 3
    for case, row in zip(cases, rows, strict=True):
        by_library = predictor.predict(case.images["image"])
        assert float(row["logit.block"]) == pytest.approx(by_validation[case.id], abs=1e-4)
        assert by_library.row() == row


def test_the_python_record_is_the_row_of_the_table(journey):
    prediction = anymc3d.load(journey.plugin).predict(journey.scans[0])
    assert prediction.case == "case00"
    assert prediction.row()["probability.block"] == format(prediction.probabilities["block"], ".9g")
    assert sum(prediction.slice_weights["image"]) == pytest.approx(1, abs=1e-5)
    assert prediction.probabilities["block"] == pytest.approx(1 / (1 + np.exp(-prediction.logits["block"])))


def test_D1_every_input_has_a_row_and_bad_ones_harm_nobody(journey, predictor, tmp_path):
    shutil.copytree(journey.data / "scans", tmp_path / "scans")
    names = sorted(path.name for path in (tmp_path / "scans").iterdir())
    bad = dict.fromkeys(names[::4])
    for name in bad:
        (tmp_path / "scans" / name).write_bytes(b"not a scan")
    (tmp_path / "manifest.csv").write_text("image\n" + "".join(f"scans/{name}\n" for name in [*names, "gone.nii.gz"]))
    cases = read_manifest(tmp_path / "manifest.csv", check_scans=False).cases
    result = predict_cohort(predictor, cases, tmp_path / "out", quiet=True)
    table = read_table(tmp_path / "out" / "predictions.csv")
    assert [row["case"] for row in table] == [case.id for case in cases]
    assert result.exit_code == 3
    for case, row in zip(cases, table, strict=True):
        broken = case.id + ".nii.gz" in bad or case.id == "gone"
        assert (row["status"] == "error") == broken
        if broken:
            assert row["logit.block"] == row["decision.block"] == ""
            assert row["message"]
        else:
            assert row["logit.block"] == predictor.predict(case.images["image"]).row()["logit.block"]


def test_D10_all_failed_is_exit_code_4(predictor, tmp_path):
    (tmp_path / "m.csv").write_text("image\nnothing.nii.gz\n")
    cases = read_manifest(tmp_path / "m.csv", check_scans=False).cases
    assert predict_cohort(predictor, cases, tmp_path / "out", quiet=True).exit_code == 4


def test_D3_a_second_run_computes_nothing_and_touches_nothing(journey, predictor, tmp_path):
    cases = read_manifest(journey.data / "manifest.csv").cases
    predict_cohort(predictor, cases, tmp_path / "out", quiet=True)
    before = {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in (tmp_path / "out").iterdir() if p.name != ".lock"}
    result = predict_cohort(predictor, cases, tmp_path / "out", quiet=True)
    assert (result.computed, result.reused) == (0, len(cases))
    after = {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in (tmp_path / "out").iterdir() if p.name != ".lock"}
    assert after == before


def test_D4_changed_scans_are_computed_again_and_only_they(journey, predictor, tmp_path):
    shutil.copytree(journey.data / "scans", tmp_path / "scans")
    shutil.copy(journey.data / "manifest.csv", tmp_path / "manifest.csv")
    cases = read_manifest(tmp_path / "manifest.csv").cases
    predict_cohort(predictor, cases, tmp_path / "out", quiet=True)
    for case in cases[:3]:
        image = nib.load(case.images["image"])
        voxels = np.asarray(image.dataobj).copy()
        voxels[0, 0, 0] += 1
        nib.save(nib.Nifti1Image(voxels, image.affine), case.images["image"])
    assert predict_cohort(predictor, cases, tmp_path / "out", quiet=True).computed == 3


def test_D4_another_plugin_in_the_same_folder_is_refused(journey, predictor, second, tmp_path):
    cases = read_manifest(journey.data / "manifest.csv").cases[:1]
    predict_cohort(predictor, cases, tmp_path / "out", quiet=True)
    with pytest.raises(RunFolderError, match="plugins"):
        predict_cohort(load(second, device="cpu"), cases, tmp_path / "out", quiet=True)


def test_D2_a_torn_journal_line_is_cut_and_the_table_comes_out_the_same(journey, predictor, tmp_path):
    cases = read_manifest(journey.data / "manifest.csv").cases[:6]
    predict_cohort(predictor, cases, tmp_path / "calm", quiet=True)
    predict_cohort(predictor, cases[:3], tmp_path / "torn", quiet=True)
    journal = tmp_path / "torn" / "journal.jsonl"
    journal.write_bytes(journal.read_bytes()[:-17])
    result = predict_cohort(predictor, cases, tmp_path / "torn", quiet=True)
    assert (result.computed, result.reused) == (4, 2)
    tables = [(tmp_path / name / "predictions.csv").read_bytes() for name in ("calm", "torn")]
    assert tables[0] == tables[1]
    assert len(read_journal(journal)) == 6


def test_D7_rows_come_in_the_order_of_the_inputs(journey, predictor, tmp_path):
    cases = list(read_manifest(journey.data / "manifest.csv").cases[:5])
    forwards = predict_cohort(predictor, cases, tmp_path / "a", quiet=True).rows
    backwards = predict_cohort(predictor, cases[::-1], tmp_path / "b", quiet=True).rows
    assert forwards == backwards[::-1]


def test_several_plugins_share_one_backbone_and_one_read(journey, second, monkeypatch, tmp_path):
    reads = []
    original = anymc3d.data.scan.read_volume
    monkeypatch.setattr("anymc3d.data.scan.read_volume", lambda *a, **k: reads.append(a[0]) or original(*a, **k))
    made = []
    build = VisionTransformer.__init__
    monkeypatch.setattr(VisionTransformer, "__init__", lambda self, config: made.append(self) or build(self, config))
    both = load([journey.plugin, second], device="cpu")
    assert len({id(resident.backbone.module) for resident in both.residents}) == 1
    assert len(made) == 1
    first, other = both.predict(journey.scans[0])
    assert len(reads) == 1
    alone = load(journey.plugin, device="cpu").predict(journey.scans[0])
    assert first.logits == pytest.approx(alone.logits, abs=1e-5)
    assert other.logits["block"] == pytest.approx(first.logits["block"] + 2, abs=5e-3)
    cases = read_manifest(journey.data / "manifest.csv").cases[:2]
    predict_cohort(both, cases, tmp_path / "out", quiet=True)
    table = read_table(tmp_path / "out" / "predictions.csv")
    assert [(row["case"], row["plugin"]) for row in table] == [
        (case.id, name) for case in cases for name in ("block", "second")
    ]


def test_plugins_of_one_name_cannot_share_a_table(journey):
    with pytest.raises(UsageError, match="got 'block' twice"):
        load([journey.plugin, journey.plugin], device="cpu")
    both = load([journey.plugin, f"again={journey.plugin}"], device="cpu")
    assert [plugin.card.name for plugin in both.plugins] == ["block", "again"]
    assert len({plugin.hash for plugin in both.plugins}) == 1
    assert repr(both) == "<Predictor of block, again on cpu, fp32>"
    assert len(repr(both.plugins[0])) < 200
    with pytest.raises(PluginError, match="absent"):
        load(f"again={journey.plugin.parent / 'absent.safetensors'}", device="cpu")


def test_H6_chunk_size_changes_no_logit(journey, predictor):
    plugin = load_plugin(journey.plugin)
    logits = [
        Predictor([plugin], device="cpu", chunk_size=size).predict(journey.scans[1]).logits["block"]
        for size in (1, 3, 64)
    ]
    assert max(logits) - min(logits) <= 1e-5


def test_a_bad_scan_raises_in_the_library(predictor, tmp_path):
    with pytest.raises(ScanError, match=r"^image: the file does not exist"):
        predictor.predict(tmp_path / "absent.nii.gz")


def test_B10_a_ct_in_hu_against_an_mr_plugin_is_a_warning_with_both_profiles(journey, predictor, tmp_path):
    rng = np.random.default_rng(1)
    voxels = rng.normal(40, 30, (24, 28, 8)).astype(np.float32)
    voxels[:8] = rng.normal(-1000, 5, (8, 28, 8))
    nib.save(nib.Nifti1Image(voxels, np.diag([1.0, 1.0, 3.0, 1.0])), tmp_path / "ct.nii.gz")
    prediction = predictor.predict(tmp_path / "ct.nii.gz")
    assert prediction.status == "warn"
    assert prediction.logits
    assert "-10" in prediction.message
    assert "MR" in prediction.message


def test_a_plugin_of_other_preprocessing_code_is_refused(journey):
    plugin = load_plugin(journey.plugin)
    old = replace(plugin, card=replace(plugin.card, code_version=plugin.card.code_version + 1))
    with pytest.raises(PluginError, match="preprocessing version"):
        Predictor([old], device="cpu")


def test_predicting_never_changes_the_backbone(journey, predictor):
    from anymc3d.models.tensor_hash import tensors_hash

    (resident,) = predictor.residents
    before = tensors_hash(resident.backbone.module.state_dict())
    predictor.predict(journey.scans[0])
    assert tensors_hash(resident.backbone.module.state_dict()) == before


def test_journal_lines_are_plain_json(journey, predictor, tmp_path):
    cases = read_manifest(journey.data / "manifest.csv").cases[:2]
    predict_cohort(predictor, cases, tmp_path / "out", quiet=True)
    lines = (tmp_path / "out" / "journal.jsonl").read_text().splitlines()
    assert [json.loads(line)["case"] for line in lines] == [case.id for case in cases]


def test_G3_no_path_or_file_name_of_a_failed_scan_is_in_the_outputs(predictor, tmp_path):
    (tmp_path / "JOHN_DOE_1950.nii.gz").write_bytes(b"not a scan")
    (tmp_path / "m.csv").write_text("case,image\np1,JOHN_DOE_1950.nii.gz\np2,JANE_ROE.nii.gz\n")
    cases = read_manifest(tmp_path / "m.csv", check_scans=False).cases
    predict_cohort(predictor, cases, tmp_path / "out", quiet=True)
    for path in (tmp_path / "out").iterdir():
        text = path.read_text()
        assert not [word for word in ("DOE", "ROE", str(tmp_path)) if word in text], path.name
    messages = [row["message"] for row in read_table(tmp_path / "out" / "predictions.csv")]
    assert all(message.startswith("image: ") for message in messages)


def test_G6_outputs_are_private_whatever_the_umask(journey, predictor, tmp_path):
    before = os.umask(0)
    try:
        predict_cohort(predictor, read_manifest(journey.data / "manifest.csv").cases[:1], tmp_path / "out", quiet=True)
    finally:
        os.umask(before)
    assert not [p for p in [tmp_path / "out", *(tmp_path / "out").iterdir()] if p.stat().st_mode & 0o077]


def test_a_failed_case_is_tried_again(journey, predictor, tmp_path, monkeypatch):
    cases = read_manifest(journey.data / "manifest.csv").cases[:2]

    def no_memory(*_args):
        raise MemoryError("no memory left")

    monkeypatch.setattr(Predictor, "predict_scans", no_memory)
    assert predict_cohort(predictor, cases, tmp_path / "out", quiet=True).exit_code == 4
    monkeypatch.undo()
    result = predict_cohort(predictor, cases, tmp_path / "out", quiet=True)
    assert (result.exit_code, result.computed) == (0, 2)
