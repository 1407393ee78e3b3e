"""Maps by a kept decoder: on the scan's own grid, with true figures, and the answer untouched."""

import shutil
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score

from anymc3d.cli.main import main
from anymc3d.data.manifest import read_manifest
from anymc3d.data.preprocess import prepare_view
from anymc3d.data.scan_grid import prepare_mask
from anymc3d.data.volume import Volume
from anymc3d.files.tables import read_table, write_table
from anymc3d.maps import folder as segmentation_folder
from anymc3d.maps.case_maps import Drawn, likeliest
from anymc3d.maps.folder import COLUMNS, compare, segment_cohort
from anymc3d.models.decoders.nnunet import NnUNetDecoder
from anymc3d.plugins import load_plugin
from anymc3d.predict.predictor import load
from anymc3d.settings.task_file import read_task
from anymc3d.settings.views import ViewSettings
from anymc3d.train.fit import fit
from masked_scans import LABELS, masked_task, write_masked_scans


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A folder with scans, masks, manifest, a plugin with its decoder, and its predictions with and without maps."""
    folder = tmp_path_factory.mktemp("kept")
    write_masked_scans(folder)
    (folder / "task.yaml").write_text(masked_task("nnunet", keep="true").replace("epochs: 2", "epochs: 4"))
    fit(read_task(folder / "task.yaml"), folder / "run", device="cpu", quiet=True)
    words = ["predict", "-p", str(folder / "run/plugin.safetensors"), "-i", str(folder / "manifest.csv"), "--quiet"]
    assert main([*words, "-o", str(folder / "with"), "--segmentation"]) == 0
    assert main([*words, "-o", str(folder / "without")]) == 0
    return folder


def test_the_answer_is_the_same_bytes_with_and_without_maps(kept):
    assert (kept / "with/predictions.csv").read_bytes() == (kept / "without/predictions.csv").read_bytes()


def test_D1_whatever_one_case_raises_the_others_are_drawn_and_earlier_rows_stay(kept, tmp_path, monkeypatch):
    out, cases = tmp_path / "out", read_manifest(kept / "manifest.csv").cases[:3]
    shutil.copytree(kept / "with", out)
    shutil.rmtree(out / "segmentations")
    (out / "segmentations.csv").unlink()
    draw, seen = segmentation_folder.segment_case, []

    def break_the_first(*given):
        seen.append(given)
        if len(seen) == 1:
            raise ValueError("box")
        return draw(*given)

    monkeypatch.setattr(segmentation_folder, "segment_case", break_the_first)
    predictor = load(kept / "run/plugin.safetensors", device="cpu")
    rows = segment_cohort(predictor, cases[:2], out, quiet=True)
    assert next((row["case"], row["status"]) for row in rows) == (cases[0].id, "error")
    assert "ValueError" in rows[0]["message"] and {row["case"] for row in rows[1:]} == {cases[1].id}
    segment_cohort(predictor, cases[2:], out, quiet=True)
    table = read_table(out / "segmentations.csv")
    assert [*dict.fromkeys(row["case"] for row in table)] == [cases[2].id, cases[0].id, cases[1].id]


def test_maps_lie_on_the_scan_and_hold_its_labels(kept):
    for scan in sorted((kept / "scans").glob("*.nii.gz")):
        drawn, source = nib.load(kept / "with/segmentations" / scan.name), nib.load(scan)
        assert drawn.shape == source.shape and np.allclose(drawn.affine, source.affine)
        assert drawn.get_data_dtype() == np.uint8 and set(np.unique(drawn.get_fdata())) <= {0, *LABELS}


def test_dice_is_that_of_scikit_learn(kept):
    rows = read_table(kept / "with/segmentations.csv")
    masks = {row["image"].split("/")[-1][:6]: row["mask"] for row in read_table(kept / "manifest.csv")}
    assert any(row["dice"] for row in rows)
    for row in rows:
        if not masks[row["case"]]:
            assert row["dice"] == row["true_volume_ml"] == ""
            continue
        truth = nib.load(kept / masks[row["case"]]).get_fdata().ravel() == int(row["label"])
        ours = nib.load(kept / f"with/segmentations/{row['case']}.nii.gz").get_fdata().ravel() == int(row["label"])
        assert float(row["volume_ml"]) == pytest.approx(ours.sum() * 3 / 1000)
        assert not (truth.any() or ours.any()) or float(row["dice"]) == pytest.approx(f1_score(truth, ours), abs=1e-6)


def test_dice_of_nothing_against_nothing_is_undefined_and_says_so(kept):
    cases = {case.id: case for case in read_manifest(kept / "manifest.csv").cases}
    nothing = Drawn("image", np.zeros((24, 28, 8), np.uint8), np.diag([1.0, 1.0, 3.0, 1.0]))
    predictor = load(kept / "run/plugin.safetensors", device="cpu")
    for row in compare(predictor, cases["case02"], nothing):  # its mask is empty
        assert (row["dice"], row["true_volume_ml"], row["volume_ml"]) == ("", "0", "0")
        assert "Dice is undefined" in row["message"]
    assert [row["dice"] for row in compare(predictor, cases["case01"], nothing)] == ["0", "0"]
    only = replace(cases["case01"], mask_classes=f"{LABELS[0]}")
    refused, _ = compare(predictor, only, nothing)
    assert refused["status"] == "warn" and f"holds labels [{LABELS[1]}]" in refused["message"]
    partly = replace(cases["case02"], mask_classes=f"{LABELS[0]}")
    assert [row["true_volume_ml"] for row in compare(predictor, partly, nothing)] == ["0", ""]


def test_the_same_command_again_computes_nothing_and_mends_what_is_gone(kept, monkeypatch):
    import anymc3d.maps.folder as module

    whole = (kept / "with/segmentations.csv").read_bytes()
    gone = kept / "with/segmentations/case01.nii.gz"
    before, done = gone.read_bytes(), []
    gone.unlink()
    real = module.segment_case
    monkeypatch.setattr(module, "segment_case", lambda *given: done.append(given[1].id) or real(*given))
    words = ["predict", "-p", str(kept / "run/plugin.safetensors"), "-i", str(kept / "manifest.csv"), "--quiet"]
    assert main([*words, "-o", str(kept / "with"), "--segmentation"]) == 0
    assert done == ["case01"] and gone.read_bytes() == before
    assert (kept / "with/segmentations.csv").read_bytes() == whole


def test_evaluate_gives_dice_with_intervals_by_patient(kept, tmp_path):
    """Dice of known values: what a few steps of training happen to draw must not decide what statistics are tested."""
    rows = read_table(kept / "with/segmentations.csv")
    rng = np.random.default_rng(0)
    for row in rows:
        row["dice"] = f"{rng.uniform(0.2, 0.9):.6f}" if row["true_volume_ml"] not in ("", "0") else ""
    table = tmp_path / "segmentations.csv"
    write_table(table, COLUMNS, rows)
    tables = [str(kept / "with/predictions.csv"), str(kept / "manifest.csv"), "--segmentations", str(table)]
    assert main(["evaluate", *tables, "--quiet", "--resamples", "200", "-o", str(tmp_path / "out")]) == 0
    found = [row for row in read_table(tmp_path / "out/metrics.csv") if row["metric"] == "dice"]
    assert [row["label"] for row in found] == [f"mask={label}" for label in LABELS]
    for row in found:
        own = [float(r["dice"]) for r in rows if r["label"] == row["label"].split("=")[1] and r["dice"]]
        assert len(own) >= 3 and int(row["n"]) == len(own)
        assert float(row["value"]) == pytest.approx(np.mean(own))
        assert min(own) <= float(row["ci_low"]) < float(row["value"]) < float(row["ci_high"]) <= max(own)


def test_another_table_is_refused_in_one_line(kept, capsys):
    words = ["evaluate", str(kept / "with/predictions.csv"), str(kept / "manifest.csv"), "-o", str(kept / "no")]
    assert main([*words, "--segmentations", str(kept / "manifest.csv")]) == 2
    assert "expected the segmentations.csv" in capsys.readouterr().err


def test_a_plugin_without_decoder_is_refused_in_one_line(kept, journey, capsys):
    words = ["predict", "-i", str(kept / "manifest.csv"), "-o", str(kept / "none"), "--segmentation"]
    assert main([*words, "-p", str(journey.plugin)]) == 2
    said = capsys.readouterr().err
    assert "holds no decoder (it was trained without one)" in said and len(said.strip().splitlines()) == 1
    assert not (kept / "none").exists()


def test_a_mask_on_another_grid_costs_the_figures_and_not_the_map(kept, tmp_path):
    for name in ("scans", "masks"):
        shutil.copytree(kept / name, tmp_path / name)
    shifted = nib.Nifti1Image(np.zeros((24, 28, 8), np.uint8), np.diag([1.0, 1.0, 4.0, 1.0]))
    nib.save(shifted, tmp_path / "masks/case01.nii.gz")
    (tmp_path / "manifest.csv").write_text("image,mask\nscans/case01.nii.gz,masks/case01.nii.gz\n")
    words = ["predict", "-p", str(kept / "run/plugin.safetensors"), "-i", str(tmp_path / "manifest.csv"), "--quiet"]
    assert main([*words, "-o", str(tmp_path / "out"), "--segmentation"]) == 0
    rows = read_table(tmp_path / "out/segmentations.csv")
    assert {row["status"] for row in rows} == {"warn"} and "not on its scan's grid" in rows[0]["message"]
    assert (tmp_path / "out/segmentations/case01.nii.gz").is_file()


def one_case(kept, out):
    scan, plugin = str(kept / "scans/case01.nii.gz"), str(kept / "run/plugin.safetensors")
    return ["predict", "-p", plugin, "-i", scan, "-o", str(out), "--segmentation", "--quiet", "--device", "cpu"]


def test_a_case_that_takes_too_much_memory_is_drawn_in_smaller_chunks_or_fails_alone(kept, tmp_path, monkeypatch):
    import anymc3d.maps.case_maps as module

    real, sizes = module.classify_and_decode, []

    def scarce(*given):
        sizes.append(given[3].chunk_size)
        if sizes[-1] > least:
            raise torch.OutOfMemoryError("not enough memory")
        return real(*given)

    monkeypatch.setattr(module, "classify_and_decode", scarce)
    least = 16
    assert main(one_case(kept, tmp_path / "small")) == 0
    assert sizes == [64, 32, 16]
    name = "segmentations/case01.nii.gz"
    assert (tmp_path / "small" / name).read_bytes() == (kept / "with" / name).read_bytes()
    least = 0
    assert main(one_case(kept, tmp_path / "none")) == 3
    (row,) = read_table(tmp_path / "none/segmentations.csv")
    assert row["status"] == "error" and "more memory is needed" in row["message"]


def test_a_map_that_is_not_finite_is_an_error_and_not_background(kept, tmp_path, monkeypatch):
    monkeypatch.setattr(NnUNetDecoder, "probabilities", lambda *given: torch.full((3, 4, 28, 28), torch.nan))
    assert main(one_case(kept, tmp_path / "out")) == 3
    (row,) = read_table(tmp_path / "out/segmentations.csv")
    assert row["status"] == "error" and "not finite" in row["message"]
    assert not (tmp_path / "out/segmentations/case01.nii.gz").exists()


def test_the_kept_decoder_is_in_the_plugin_and_changes_nothing_else(kept):
    plugin = load_plugin(kept / "run/plugin.safetensors")
    assert plugin.card.decodes and any(name.startswith("decoder.image.") for name in plugin.tensors)


OBLIQUE = np.array([[0.96, -0.2, 0.1, -40], [0.22, 0.95, -0.18, 10], [-0.06, 0.2, 0.98, 5], [0, 0, 0, 1.0]])


@pytest.mark.parametrize("flip", [(1, 1, 1), (-1, -1, 1), (1, -1, -1)], ids=["RAS", "LPS", "RPI"])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
@pytest.mark.parametrize("crop", [None, (24.0, 30.0, 24.0)])
def test_a_perfect_map_comes_back_to_the_scans_own_grid(flip, order, crop):
    """Oblique affine, any storage order, a crop, slices as fine as the scan: the mask that went in comes out."""
    rng = np.random.default_rng(0)
    labels = np.zeros((30, 36, 12), np.uint8)
    labels[10:20, 12:24, 4:9], labels[12:16, 14:20, 5:8] = 1, 2
    spacing = np.diag([1.0, 1.0, 3.0, 1.0])
    u, _, vt = np.linalg.svd(OBLIQUE[:3, :3])
    affine = OBLIQUE.copy()
    affine[:3, :3] = u @ vt
    affine = affine @ spacing
    stored = nib.orientations.apply_orientation(labels, [[order[i], flip[i]] for i in range(3)])
    affine = affine @ nib.orientations.inv_ornt_aff(np.array([[order[i], flip[i]] for i in range(3)]), labels.shape)
    scan = Volume(voxels=rng.normal(size=stored.shape).astype(np.float32), affine=affine)
    size = (30, 36, 12) if crop is None else (24, 30, 8)
    view = prepare_view(scan, ViewSettings(size=size, plane="axial", field_of_view=crop))
    cut = prepare_mask(stored, affine, view)
    maps = np.stack([cut == label for label in (0, 1, 2)]).astype(np.float32)
    back = likeliest([(maps, view.affine)], stored.shape, affine, (1, 2))
    assert back.dtype == np.uint8 and np.array_equal(back, stored)
