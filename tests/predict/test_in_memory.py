"""Scans in memory give the answers of the same scans in files; what is no scan is refused with what to do."""

from __future__ import annotations

import re
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch

from anymc3d.data.in_memory import content_hash_of, volume_of
from anymc3d.data.readers import read_volume
from anymc3d.data.volume import Volume
from anymc3d.errors import ScanError, UsageError
from anymc3d.plugins import load_plugin, save_plugin
from anymc3d.predict.predictor import load

AFFINE = np.array([[-0.9, 0, 0, 12.0], [0, 0, 2.0, -8.0], [0, -1.1, 0, 30.0], [0, 0, 0, 1.0]])
SPACING = (0.9, 1.1, 3.0)


@pytest.fixture(scope="module")
def predictor(journey):
    return load(journey.plugin, device="cpu")


@pytest.fixture(scope="module")
def voxels() -> np.ndarray:
    return np.random.default_rng(5).integers(0, 900, (24, 28, 9)).astype(np.int16)


def numbers(prediction) -> dict[str, str]:
    return {key: cell for key, cell in prediction.row().items() if key != "case"}


KINDS = {
    "array": lambda voxels, _: voxels,
    "array_in_fortran_order": lambda voxels, _: np.asfortranarray(voxels),
    "float_array": lambda voxels, _: voxels.astype(np.float64),
    "tensor": lambda voxels, _: torch.from_numpy(voxels),
    "tensor_with_gradient": lambda voxels, _: torch.from_numpy(voxels).to(torch.float32).requires_grad_(),
    "with_one_channel_behind": lambda voxels, _: voxels[..., None],
}


@pytest.mark.parametrize("kind", KINDS)
def test_B15_an_array_with_spacing_is_the_npy_file(predictor, voxels, tmp_path, kind) -> None:
    np.save(tmp_path / "scan.npy", voxels)
    by_file = predictor.predict(tmp_path / "scan.npy", spacing=SPACING)
    by_array = predictor.predict(KINDS[kind](voxels, tmp_path), spacing=SPACING, case="scan")
    assert by_array.row() == by_file.row() and by_array.slice_weights == by_file.slice_weights


@pytest.mark.parametrize("of", [np.asarray, torch.from_numpy])
def test_B15_an_array_with_an_affine_is_the_nifti_file(predictor, voxels, tmp_path, of) -> None:
    nib.save(nib.Nifti1Image(voxels, AFFINE), tmp_path / "scan.nii.gz")
    by_file = predictor.predict(tmp_path / "scan.nii.gz")
    affine = AFFINE if of is np.asarray else torch.from_numpy(AFFINE)
    assert numbers(predictor.predict(of(voxels), affine=affine)) == numbers(by_file)


def test_B15_a_tensor_that_carries_its_affine_needs_no_other(predictor, voxels) -> None:
    class MetaTensor(torch.Tensor):
        affine = torch.from_numpy(AFFINE)

    tensor = torch.from_numpy(voxels).as_subclass(MetaTensor)
    assert numbers(predictor.predict(tensor)) == numbers(predictor.predict(voxels, affine=AFFINE))


def write_nifti(path, voxels, *, codes=(1, 1), slope=None, units="mm", sform=AFFINE) -> None:
    image = nib.Nifti1Image(voxels, AFFINE)
    image.set_qform(AFFINE, codes[0])
    image.set_sform(sform, codes[1])
    image.header.set_xyzt_units(units)
    if slope:
        image.header.set_slope_inter(*slope)
    nib.save(image, path)


NIFTIS = {
    "plain": {},
    "slope": {"slope": (0.37, -11.5)},
    "no_orientation": {"codes": (0, 0)},
    "qform_alone": {"codes": (1, 0)},
    "two_forms": {"sform": np.diag([1.0, 1, 2, 1])},
}


@pytest.mark.parametrize("name", NIFTIS)
def test_B15_a_nibabel_image_is_its_file_warnings_included(predictor, voxels, tmp_path, name) -> None:
    path = tmp_path / "scan.nii.gz"
    write_nifti(path, voxels, **NIFTIS[name])
    by_file, by_image = predictor.predict(path), predictor.predict(nib.load(path))
    assert numbers(by_image) == numbers(by_file)
    of_the_header = set(by_file.message.split("; ")) - {"", *by_file.unlike_training}
    assert bool(of_the_header) == (name in ("no_orientation", "two_forms"))


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image, nib.Nifti1Pair, nib.MGHImage])
def test_B15_an_image_that_was_never_in_a_file_is_what_it_would_be_there(voxels, tmp_path, kind) -> None:
    image = kind(voxels, AFFINE)
    path = tmp_path / {nib.MGHImage: "a.mgz", nib.Nifti1Pair: "a.img"}.get(kind, "a.nii")
    nib.save(image, path)
    by_file, by_image = read_volume(path), volume_of(image)
    assert np.array_equal(by_file.voxels, by_image.voxels) and by_file.warnings == by_image.warnings == ()
    np.testing.assert_allclose(by_file.affine, by_image.affine, atol=1e-5)


@pytest.mark.parametrize("suffix", [".mha", ".nrrd", ".nii.gz"])
def test_B15_a_simpleitk_image_is_its_file(predictor, voxels, tmp_path, suffix) -> None:
    image = sitk.GetImageFromArray(voxels.transpose(2, 1, 0))
    image.SetSpacing(SPACING)
    image.SetOrigin((-20, 5, 40))
    image.SetDirection((0, -1, 0, 1, 0, 0, 0, 0, 1))
    sitk.WriteImage(image, str(tmp_path / f"scan{suffix}"))
    by_file = predictor.predict(tmp_path / f"scan{suffix}")
    assert float(numbers(predictor.predict(image))["logit.block"]) == pytest.approx(by_file.logits["block"], abs=1e-5)


def test_B15_a_volume_is_taken_as_it_is(predictor, journey) -> None:
    volume = read_volume(journey.scans[3])
    assert numbers(predictor.predict(volume)) == numbers(predictor.predict(journey.scans[3]))


def test_the_views_of_a_study_may_be_in_memory(journey, voxels, tmp_path) -> None:
    """A plugin of one view whose manifest column is ``image.axial``."""
    plugin = load_plugin(journey.plugin)
    (name, view), column = next(iter(plugin.card.preprocessing.items())), "image.axial"
    renamed = replace(
        plugin.card,
        preprocessing={name: replace(view, image=column)},
        intensities={column: next(iter(plugin.card.intensities.values()))},
    )
    save_plugin(tmp_path / "plugin.safetensors", renamed, plugin.tensors)
    predictor = load(tmp_path / "plugin.safetensors", device="cpu")
    alone = predictor.predict(voxels, spacing=SPACING)
    assert alone.case == "in_memory"
    by_view = predictor.predict(views={"axial": voxels}, spacing=SPACING)
    np.save(tmp_path / "ax.npy", voxels)
    by_file = predictor.predict(views={"axial": tmp_path / "ax.npy"}, spacing=SPACING)
    assert numbers(by_view) == numbers(by_file) == numbers(alone)


def test_the_users_array_is_not_changed(predictor, voxels) -> None:
    before = voxels.copy()
    predictor.predict(voxels, spacing=SPACING)
    assert np.array_equal(before, voxels) and before.dtype == voxels.dtype


def test_B13_the_hash_of_a_volume_is_of_voxels_and_place(voxels) -> None:
    one = volume_of(voxels, affine=AFFINE)
    same = volume_of(np.asfortranarray(voxels.astype(np.float64)), affine=AFFINE)
    moved = volume_of(voxels, affine=AFFINE + np.outer([1, 0, 0, 0], [0, 0, 0, 1]))
    other = voxels.copy()
    other[1, 2, 3] += 1
    hashes = [content_hash_of(v) for v in (one, same, moved, volume_of(other, affine=AFFINE))]
    assert hashes[0] == hashes[1] and len(set(hashes)) == 3


def test_a_tensor_of_bfloat16_is_read(voxels) -> None:
    halves = torch.from_numpy(voxels).to(torch.bfloat16)
    assert np.array_equal(volume_of(halves, spacing=SPACING).voxels, halves.float().numpy())


WRONG = {
    "no_spacing": (lambda v: (v,), {}, "has no geometry of its own: give spacing="),
    "no_spacing_tensor": (lambda v: (torch.from_numpy(v),), {}, "a tensor has no geometry"),
    "both": (lambda v: (v,), {"spacing": SPACING, "affine": AFFINE}, "and not both"),
    "spacing_of_two": (lambda v: (v,), {"spacing": (1, 1)}, "three numbers in millimetres"),
    "spacing_text": (lambda v: (v,), {"spacing": "1 1 1"}, "three numbers in millimetres"),
    "spacing_zero": (lambda v: (v,), {"spacing": (0, 1, 1)}, "usable geometry"),
    "spacing_absurd": (lambda v: (v,), {"spacing": (900, 1, 1)}, "expected a spacing of"),
    "spacing_nan": (lambda v: (v,), {"spacing": (np.nan, 1, 1)}, "usable geometry"),
    "affine_of_three": (lambda v: (v,), {"affine": np.eye(3)}, r"\(4, 4\) matrix"),
    "affine_transposed": (lambda v: (v,), {"affine": AFFINE.T}, "last row"),
    "affine_flat": (lambda v: (v,), {"affine": np.diag([1, 1, 0, 1.0])}, "usable geometry"),
    "image_with_spacing": (lambda v: (nib.Nifti1Image(v, AFFINE),), {"spacing": SPACING}, "leave out spacing"),
    "a_list_of_paths": (lambda v: (["a.nii", "b.nii"],), {}, "one by one"),
    "a_list_of_arrays": (lambda v: ([v, v],), {"spacing": SPACING}, "one by one"),
    "nothing": (lambda v: (), {}, "one scan, or views"),
    "a_number": (lambda v: (3,), {}, "got int"),
    "bytes": (lambda v: (b"scan.nii",), {}, "got bytes"),
    "a_mapping": (lambda v: ({"image": v},), {}, "got dict"),
    "an_affine_for_a_file": (lambda v: ("a.nii",), {"affine": AFFINE}, "a file has its own"),
    "views_in_a_list": (lambda v: (), {"views": ["a.nii"]}, "expected a mapping"),
    "a_view_of_none": (lambda v: (), {"views": {"a": None}}, "leave out a view"),
    "a_mask_in_memory": (lambda v: (v,), {"spacing": SPACING, "mask": np.ones(3)}, "path of a file"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_scan_is_refused_with_what_to_do(predictor, voxels, name) -> None:
    arguments, options, word = WRONG[name]
    with pytest.raises(UsageError, match=word) as caught:
        predictor.predict(*arguments(voxels), **options)
    assert len(str(caught.value)) < 400  # never the repr of an array


UNUSABLE = {
    "nan": (lambda v: np.where(v == v.max(), np.nan, v), "expected finite numbers only"),
    "constant": (lambda v: np.full_like(v, 7), "an empty scan"),
    "flat": (lambda v: v[0], "expected three axes"),
    "channel_first": (lambda v: v[None], r"give scan\[0\]"),
    "two_volumes": (lambda v: np.stack([v, v], axis=-1), "give one volume"),
    "complex": (lambda v: v.astype(complex), "expected integers or floats"),
    "objects": (lambda v: v.astype(object), "expected integers or floats"),
    "text": (lambda v: v.astype(str), "expected integers or floats"),
    "empty": (lambda v: v[:0], "expected three axes"),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_B9_voxels_that_no_file_may_have_are_refused_in_memory_too(predictor, voxels, name) -> None:
    change, word = UNUSABLE[name]
    with pytest.raises(ScanError, match=word):
        predictor.predict(change(voxels), spacing=SPACING)


def test_B9_a_volume_is_checked_too(voxels) -> None:
    bad = voxels.astype(np.float32)
    bad[2, 3, 4] = np.inf
    with pytest.raises(ScanError, match="exceed the range"):
        volume_of(Volume(bad, AFFINE))


def test_images_of_several_values_or_without_sides_are_refused(voxels) -> None:
    with pytest.raises(ScanError, match=r"4 dimensions|values per voxel"):
        volume_of(sitk.GetImageFromArray(np.stack([voxels] * 2, axis=-1), isVector=True))
    with pytest.raises(ScanError, match="left and right"):
        volume_of(nib.AnalyzeImage(voxels, AFFINE))
    made = nib.Nifti1Image(np.asanyarray(nib.AnalyzeImage(voxels, AFFINE).dataobj), AFFINE)
    assert np.array_equal(volume_of(made).voxels, voxels.astype(np.float32))


def test_the_advice_for_a_list_works(predictor, journey) -> None:
    scans = journey.scans[:2]
    with pytest.raises(UsageError) as caught:
        predictor.predict(scans)
    (advised,) = re.findall(r"one by one: (\[.*\])", str(caught.value))
    found = eval(advised, {"predictor": predictor, "scans": scans})
    assert [prediction.case for prediction in found] == ["case00", "case01"]
