"""A folder of explanations: files as promised, skipped when done, refused when of another plugin."""

import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch

from anymc3d.cli.main import main
from anymc3d.cli.options.inputs import read_inputs
from anymc3d.errors import OutputError, PluginError
from anymc3d.explain import folder as module
from anymc3d.explain.folder import ExplainSettings, explain_cohort, file_name, peak_mm
from anymc3d.explain.heatmaps import Heatmap
from anymc3d.explain.scores import shuffled
from anymc3d.files.tables import read_table
from anymc3d.predict.predictor import load

SETTINGS = ExplainSettings(methods=("attention",), pictures=False)


@pytest.fixture(scope="module")
def predictor(journey):
    return load(journey.plugin, device="cpu")


def test_the_command_writes_maps_pictures_and_records(journey, tmp_path, capsys):
    out = tmp_path / "out"
    words = [
        "explain",
        "-p",
        str(journey.plugin),
        "-i",
        *map(str, journey.scans[:2]),
        "-o",
        str(out),
        "--device",
        "cpu",
    ]
    assert main([*words, "--method", "attention", "--method", "grad-rollout"]) == 0
    assert "not where disease is" in capsys.readouterr().out
    names = {
        "explain.json",
        *(f"block.image.{m}.{s}" for m in ("attention", "grad-rollout") for s in ("nii.gz", "png")),
    }
    assert {path.name for path in (out / "case00").iterdir()} == names
    record = json.loads((out / "case00" / "explain.json").read_text())
    assert record["status"] == "ok"
    assert "research use only" in record["notice"]
    image = nib.load(out / "case00" / "block.image.attention.nii.gz")
    source = nib.load(journey.scans[0])
    assert image.get_data_dtype() == np.float32
    np.testing.assert_allclose(image.affine, source.affine)
    assert image.shape == source.shape


def test_simpleitk_sees_the_map_on_the_scans_grid(journey, predictor, tmp_path):
    explain_cohort(predictor, read_inputs([str(journey.scans[1])]), tmp_path / "out", SETTINGS, quiet=True)
    heat = sitk.ReadImage(str(tmp_path / "out" / "case01" / "block.image.attention.nii.gz"))
    scan = sitk.ReadImage(str(journey.scans[1]))
    for part in ("GetSize", "GetOrigin", "GetSpacing", "GetDirection"):
        np.testing.assert_allclose(getattr(heat, part)(), getattr(scan, part)(), atol=1e-5)


def test_a_finished_case_is_skipped_and_a_changed_scan_is_not(journey, predictor, tmp_path, monkeypatch):
    scan = tmp_path / "scan.nii.gz"
    scan.write_bytes(journey.scans[0].read_bytes())
    cases = read_inputs([str(scan), str(journey.scans[1])])
    first = explain_cohort(predictor, cases, tmp_path / "out", SETTINGS, quiet=True)
    assert (first.computed, first.exit_code) == (2, 0)
    again = explain_cohort(predictor, cases, tmp_path / "out", SETTINGS, quiet=True)
    assert again.computed == 0
    assert again.records == first.records
    scan.write_bytes(journey.scans[3].read_bytes())
    assert explain_cohort(predictor, cases, tmp_path / "out", SETTINGS, quiet=True).computed == 1
    (tmp_path / "out" / "case01" / "block.image.attention.nii.gz").unlink()
    assert explain_cohort(predictor, cases, tmp_path / "out", SETTINGS, quiet=True).computed == 1


def test_a_broken_scan_has_its_record_and_the_others_go_on(journey, tmp_path, capsys):
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(b"not a scan")
    words = ["explain", "-p", str(journey.plugin), "-i", str(broken), "-o", str(tmp_path / "out"), "--no-pictures"]
    assert main([*words, str(journey.scans[0])]) == 2  # a scan after -o belongs to no option
    assert main(words) == 4
    record = json.loads((tmp_path / "out" / "broken" / "explain.json").read_text())
    assert record["status"] == "error"
    assert str(tmp_path) not in json.dumps(record)
    words[words.index("-o") : words.index("-o")] = [str(journey.scans[0])]
    assert main(words) == 3
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("error", [ValueError("box"), KeyError("x"), OSError(5, "Input/output error"), Exception()])
def test_D1_whatever_one_case_raises_the_others_are_explained(journey, predictor, tmp_path, monkeypatch, error):
    explain, seen = module.explain_case, []

    def break_the_first(*given, **named):
        seen.append(given)
        if len(seen) == 1:
            raise error
        return explain(*given, **named)

    monkeypatch.setattr(module, "explain_case", break_the_first)
    cases = read_inputs([str(scan) for scan in journey.scans[:2]])
    result = explain_cohort(predictor, cases, tmp_path / "out", SETTINGS, quiet=True)
    assert [record["status"] for record in result.records] == ["error", "ok"] and result.exit_code == 3
    assert type(error).__name__ in result.records[0]["message"]
    assert explain_cohort(predictor, cases, tmp_path / "out", SETTINGS, quiet=True).computed == 1


def test_D8_a_map_that_cannot_be_written_ends_the_run_and_the_same_run_goes_on(
    journey, predictor, tmp_path, monkeypatch
):
    cases, out = read_inputs([str(scan) for scan in journey.scans[:2]]), tmp_path / "out"

    def full(path, heat):
        raise OutputError(f"{path}: cannot be written")

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_nifti", full)
        with pytest.raises(OutputError):
            explain_cohort(predictor, cases, out, SETTINGS, quiet=True)
    result = explain_cohort(predictor, cases, out, SETTINGS, quiet=True)
    assert (result.computed, result.exit_code) == (2, 0)


def test_scores_of_earlier_runs_stay_in_the_table(journey, predictor, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "score_case", lambda *_, **__: [{"mass_inside": 0.5}])
    for scans in (journey.scans[1:3], journey.scans[:1]):
        cases = read_inputs([str(scan) for scan in scans])
        explain_cohort(predictor, cases, tmp_path / "out", SETTINGS, quiet=True)
    rows = read_table(tmp_path / "out" / "heatmap_scores.csv")
    assert [row["case"] for row in rows] == ["case00", "case01", "case02"]


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--method", "rolout"], "did you mean 'rollout'"),
        (["--label", "blok"], "did you mean 'block'"),
        (["--discard", "1"], "--discard: expected a share"),
    ],
)
def test_bad_input_is_one_line_before_anything_is_loaded(journey, tmp_path, capsys, monkeypatch, extra, message):
    monkeypatch.setattr(
        "anymc3d.predict.predictor.Predictor.__init__", lambda *_, **__: pytest.fail("the backbone was loaded")
    )
    words = ["explain", "-p", str(journey.plugin), "-i", str(journey.scans[0]), "-o", str(tmp_path / "out")]
    assert main([*words, *extra]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_another_plugin_or_method_needs_another_folder(journey, predictor, tmp_path, capsys):
    words = ["explain", "-p", str(journey.plugin), "-i", str(journey.scans[0]), "-o", str(tmp_path / "out")]
    assert main([*words, "--no-pictures", "--method", "attention", "--quiet"]) == 0
    assert main([*words, "--no-pictures", "--method", "rollout", "--quiet"]) == 2
    assert "other settings" in capsys.readouterr().err


def test_A8_file_names_are_safe_and_stay_apart():
    assert file_name("grade=2") == "grade=2"
    assert file_name("Lung nodule").startswith("Lung_nodule_")
    assert file_name("../../etc") != file_name("etc")
    assert "/" not in file_name("../../etc")
    assert file_name("a b") != file_name("a.b")
    assert module.RECORD == "explain.json"


def test_B1_the_peak_of_equal_voxels_is_the_same_however_the_scan_is_stored():
    values = np.zeros((3, 4, 5), dtype=np.float32)
    values[1:, 2:, 1:4] = 1.0
    there = np.diag([-1.0, -1.0, 1.0, 1.0])
    there[:2, 3] = 2.0, 3.0
    turned = Heatmap("l", "image", "grad-rollout", "image", values[::-1, ::-1].copy(), there, 0.0, 1.0)
    assert peak_mm(turned) == peak_mm(replace(turned, values=values, affine=np.eye(4)))


def test_the_file_is_the_same_bytes_each_time(journey, predictor, tmp_path):
    cases = read_inputs([str(journey.scans[1])])
    for name in ("one", "two"):
        explain_cohort(predictor, cases, tmp_path / name, SETTINGS, quiet=True)
    first, second = ((tmp_path / n / "case01" / "block.image.attention.nii.gz").read_bytes() for n in ("one", "two"))
    assert first == second


class TestScores:
    @pytest.fixture
    def manifest(self, journey, tmp_path):
        """Two cases with the block and two without; the block's mask for all but the last."""
        rows = ["case,image,mask,split,block"]
        for index, scan in enumerate(journey.scans[:4]):
            mask = np.zeros((24, 28, 8), dtype=np.uint8)
            mask[8:16, 10:18, 2:6] = 1
            nib.save(nib.Nifti1Image(mask, np.diag([1.0, 1.0, 3.0, 1.0])), tmp_path / f"mask{index}.nii.gz")
            name = "" if index == 3 else f"mask{index}.nii.gz"
            rows.append(f"c{index},{scan},{name},test,{index % 2}")
        path = tmp_path / "manifest.csv"
        path.write_text("\n".join(rows) + "\n")
        return path

    def test_masks_give_scores_and_evaluate_makes_metrics_of_them(self, journey, manifest, tmp_path, capsys):
        out = tmp_path / "heat"
        words = ["explain", "-p", str(journey.plugin), "-i", str(manifest), "-o", str(out), "--no-pictures", "--quiet"]
        assert main([*words, "--method", "attention", "--faithfulness", "--device", "cpu"]) == 0
        rows = {row["case"]: row for row in read_table(out / "heatmap_scores.csv")}
        assert set(rows) == {"c0", "c1", "c2", "c3"}
        assert rows["c3"]["mass_in_mask"] == ""
        heat = nib.load(out / "c1" / "block.image.attention.nii.gz").get_fdata()
        assert float(rows["c1"]["mass_in_mask"]) == pytest.approx(heat[8:16, 10:18, 2:6].sum() / heat.sum(), rel=1e-5)
        assert all(0 <= float(rows["c1"][name]) <= 1 for name in ("deletion", "insertion"))
        assert float(rows["c1"]["shuffled_network"]) < 0.99
        predict = ["predict", "-p", str(journey.plugin), "-i", str(manifest), "-o", str(tmp_path / "p"), "--quiet"]
        assert main(predict) == 0
        evaluate = ["evaluate", str(tmp_path / "p" / "predictions.csv"), str(manifest), "-o", str(tmp_path / "e")]
        assert main([*evaluate, "--heatmaps", str(out / "heatmap_scores.csv"), "--resamples", "100", "--quiet"]) == 0
        (row,) = [r for r in read_table(tmp_path / "e" / "metrics.csv") if r["metric"] == "mass_in_mask"]
        assert (row["group"], row["n"]) == ("heatmap=attention", "1")
        assert float(row["value"]) == pytest.approx(float(rows["c1"]["mass_in_mask"]))
        capsys.readouterr()

    def test_a_mask_on_another_grid_is_that_cases_error(self, journey, manifest, tmp_path, capsys):
        nib.save(nib.Nifti1Image(np.ones((24, 28, 7), dtype=np.uint8), np.eye(4)), tmp_path / "mask1.nii.gz")
        words = ["explain", "-p", str(journey.plugin), "-i", str(manifest), "-o", str(tmp_path / "h"), "--no-pictures"]
        assert main([*words, "--method", "attention"]) == 3
        record = json.loads((tmp_path / "h" / "c1" / "explain.json").read_text())
        assert "the mask is not on its scan's grid" in record["message"]
        assert capsys.readouterr().out.count("error") == 1


def test_shuffling_changes_every_weight_of_a_copy_alone(journey, predictor):
    (before,) = predictor.residents
    kept = {name: t.clone() for name, t in before.backbone.module.state_dict().items()}
    (plugin_only,) = shuffled(predictor, backbone=False).residents
    (network_too,) = shuffled(predictor, backbone=True).residents
    weight = "blocks.0.attn.qkv.weight"
    assert torch.equal(plugin_only.backbone.module.state_dict()[weight], kept[weight])
    other = network_too.backbone.module.state_dict()[weight]
    assert not torch.equal(other, kept[weight])
    assert torch.equal(other.flatten().sort().values, kept[weight].flatten().sort().values)
    for name, tensor in before.backbone.module.state_dict().items():
        assert torch.equal(tensor, kept[name])


@pytest.mark.parametrize("fault", [torch.OutOfMemoryError("not enough memory"), PluginError("a logit is not finite")])
def test_a_case_that_cannot_be_explained_fails_alone(journey, predictor, tmp_path, monkeypatch, fault):
    real = module.explain_case

    def one_fails(predictor, case, **settings):
        if case.id == "case00":
            raise fault
        return real(predictor, case, **settings)

    monkeypatch.setattr(module, "explain_case", one_fails)
    result = explain_cohort(predictor, read_inputs([*map(str, journey.scans[:2])]), tmp_path, SETTINGS, quiet=True)
    assert [record["status"] for record in result.records] == ["error", "ok"] and result.exit_code == 3
    assert "--chunk-size" not in result.records[0]["message"]


def test_a_mask_that_no_map_needs_and_nobody_can_read_fails_its_case_alone(journey, predictor, tmp_path):
    case, other = read_inputs([*map(str, journey.scans[:2])])
    broken = replace(case, masks={"mask.other": str(tmp_path / "patient_name.nii.gz")})
    result = explain_cohort(predictor, [broken, other], tmp_path / "out", SETTINGS, quiet=True)
    assert [record["status"] for record in result.records] == ["error", "ok"]
    assert "patient_name" not in result.records[0]["message"]
