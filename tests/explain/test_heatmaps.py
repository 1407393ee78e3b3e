"""Heatmaps lie on the scan's own grid, whatever its storage, and belong to the prediction beside them."""

import nibabel as nib
import numpy as np
import pytest
import torch

from anymc3d.cli.options.inputs import read_inputs
from anymc3d.data.case_scans import CaseScans
from anymc3d.errors import UsageError
from anymc3d.explain.heatmaps import FUSED, explain_case, mean_maps, unit
from anymc3d.explain.methods import METHODS
from anymc3d.explain.patch_maps import MapRequest
from anymc3d.plugins import load_plugin, save_plugin
from anymc3d.plugins.ensemble import make_ensemble
from anymc3d.predict.predictor import load
from anymc3d.predict.study import study_case

ATTENTION = tuple(name for name, method in METHODS.items() if method.attention)


@pytest.fixture(scope="module")
def predictor(journey):
    return load(journey.plugin, device="cpu")


def explain(predictor, path, methods=ATTENTION):
    (case,) = read_inputs([str(path)])
    return explain_case(predictor, case, methods=methods)


def test_the_map_has_the_scans_shape_and_affine_and_runs_from_0_to_1(predictor, journey):
    scan = nib.load(journey.scans[1])
    found = explain(predictor, journey.scans[1])
    assert [heat.method for heat in found.heats] == list(ATTENTION)
    for heat in found.heats:
        assert heat.values.shape == scan.shape
        assert heat.values.dtype == np.float32
        np.testing.assert_allclose(heat.affine, scan.affine)
        assert heat.values.min() >= 0
        assert 0.5 < heat.values.max() <= 1
        assert heat.highest > heat.lowest
    assert found.prediction == predictor.predict(journey.scans[1])


@pytest.mark.parametrize("codes", ["LPS", "SAR", "PIR"])
def test_another_storage_order_gives_the_same_map_in_that_order(predictor, journey, tmp_path, codes):
    plain = nib.load(journey.scans[1])
    turned = plain.as_reoriented(
        nib.orientations.ornt_transform(nib.io_orientation(plain.affine), nib.orientations.axcodes2ornt(codes))
    )
    nib.save(turned, tmp_path / "turned.nii.gz")
    here = explain(predictor, journey.scans[1]).heats
    there = explain(predictor, tmp_path / "turned.nii.gz").heats
    for a, b in zip(here, there, strict=True):
        back = nib.as_closest_canonical(nib.Nifti1Image(b.values, b.affine))
        np.testing.assert_allclose(np.asarray(back.dataobj), a.values, atol=1e-4)


def test_an_oblique_scan_has_its_map_where_the_straight_one_has_it(predictor, journey, tmp_path):
    plain = nib.load(journey.scans[1])
    angle = np.deg2rad(20)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    nib.save(nib.Nifti1Image(plain.get_fdata(dtype=np.float32), turn @ plain.affine), tmp_path / "oblique.nii.gz")
    here = explain(predictor, journey.scans[1]).heats
    there = explain(predictor, tmp_path / "oblique.nii.gz").heats
    for a, b in zip(here, there, strict=True):
        np.testing.assert_allclose(b.values, a.values, atol=1e-4)
        np.testing.assert_allclose(b.affine, turn @ a.affine, atol=1e-4)


def test_a_field_of_view_leaves_what_was_not_seen_at_0(predictor, journey, monkeypatch):
    from dataclasses import replace

    (resident,) = predictor.residents
    view = replace(resident.plugin.card.preprocessing["image"], field_of_view=(12.0, 14.0, 24.0))
    monkeypatch.setitem(resident.plugin.card.preprocessing, "image", view)
    for heat in explain(predictor, journey.scans[1]).heats:
        inside = np.zeros(heat.values.shape, dtype=bool)
        inside[6:18, 7:21] = True
        assert heat.values[~inside].max() == 0
        assert heat.values[inside].max() > 0.5


def test_a_label_or_method_that_does_not_exist(predictor, journey):
    case = study_case(str(journey.scans[0]), None)
    with pytest.raises(UsageError, match=r"--label: unknown 'blok'.*did you mean 'block'"):
        explain_case(predictor, case, methods=["attention"], labels=["blok"])
    with pytest.raises(UsageError, match="--method: unknown heatmap 'gradcam'"):
        explain_case(predictor, case, methods=["gradcam"])


def test_a_flat_map_is_0_and_says_so():
    assert np.array_equal(unit(np.full((2, 2, 2), 0.3, dtype=np.float32)), np.zeros((2, 2, 2)))


@pytest.fixture(scope="module")
def three_planes(journey, tmp_path_factory):
    from anymc3d.settings.task_file import read_task
    from anymc3d.train.fit import fit

    folder = tmp_path_factory.mktemp("planes")
    text = journey.task.read_text().replace("manifest.csv", str(journey.data / "manifest.csv"))
    views = "".join(
        f"  {plane}: {{size: [28, 28, 4], plane: {plane}, normalise: percentile}}\n"
        for plane in ("axial", "coronal", "sagittal")
    )
    start, end = text.index("  image:"), text.index("backbone:")
    (folder / "task.yaml").write_text((text[:start] + views + text[end:]).replace("epochs: 2", "epochs: 1"))
    return load(fit(read_task(folder / "task.yaml"), folder / "run", device="cpu", quiet=True), device="cpu")


def test_one_map_per_view_and_one_over_all(three_planes, journey):
    found = explain(three_planes, journey.scans[1], methods=("attention", "grad-rollout"))
    assert [heat.view for heat in found.heats] == ["axial", "coronal", "sagittal", FUSED] * 2
    by_view = {heat.view: heat for heat in found.heats if heat.method == "attention"}
    raw = {v: by_view[v].values * (by_view[v].highest - by_view[v].lowest) + by_view[v].lowest for v in by_view}
    total = sum(found.prediction.view_weights[v] * raw[v] for v in ("axial", "coronal", "sagittal"))
    np.testing.assert_allclose(by_view[FUSED].values, unit(total.astype(np.float32)), atol=1e-4)


def test_heat_of_an_ensemble_is_the_mean_of_its_members(journey, predictor, tmp_path):
    plugin = load_plugin(journey.plugin)
    other = tmp_path / "other.safetensors"
    generator = torch.Generator().manual_seed(4)
    noisy = {name: t + 0.05 * torch.randn(t.shape, generator=generator) for name, t in plugin.tensors.items()}
    save_plugin(other, plugin.card, noisy)
    save_plugin(tmp_path / "both.safetensors", *make_ensemble([plugin, load_plugin(other)]))
    request = MapRequest(methods=ATTENTION, labels=(0,), kind="binary")
    (case,) = read_inputs([str(journey.scans[1])])
    maps = []
    for source in (journey.plugin, other, tmp_path / "both.safetensors"):
        (resident,) = load(source, device="cpu").residents
        card = resident.plugin.card
        maps.append(mean_maps(resident, predictor.batch(card, CaseScans(case).prepare(card.preprocessing)), request))
    for key, both in maps[2].items():
        torch.testing.assert_close(both, (maps[0][key] / maps[0][key].max() + maps[1][key] / maps[1][key].max()) / 2)
