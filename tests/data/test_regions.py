"""Regions: the box is where the organ is, whatever the storage; empty and cut organs are never passed over."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations, product
from pathlib import Path
from typing import get_args, get_type_hints

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scan_makers import gz, nifti_bytes, write

from anymc3d.data.cache import Cache
from anymc3d.data.case import Case
from anymc3d.data.case_scans import CaseScans
from anymc3d.data.dataset import CaseSet, prepare_all
from anymc3d.data.mask_grid import grid_difference, read_on_grid
from anymc3d.data.preprocess import AXES, prepare_view
from anymc3d.data.regions import (
    ROI_SOURCES,
    RegionSources,
    box_about,
    check_roi,
    cut_shares,
    find_region,
    region_of_labels,
)
from anymc3d.data.scan_grid import prepare_mask, to_scan_grid
from anymc3d.data.totalsegmentator import TOTAL, organ_labels
from anymc3d.data.volume import Box, Volume, box_of_extent, crop_to, permute_axes
from anymc3d.errors import ExcludedError, ManifestError, ScanError, UsageError
from anymc3d.settings.views import RoiSettings, ViewSettings

AFFINE = np.array([[0.8, 0, 0, -10.0], [0, 1.25, 0, 5.0], [0, 0, 3.0, 40.0], [0, 0, 0, 1.0]])
SHAPE = (30, 24, 12)
SCAN = np.random.default_rng(0).integers(-500, 500, size=SHAPE).astype(np.int16)
ORGAN = (slice(10, 18), slice(8, 13), slice(4, 7))


def labels(**blocks: tuple[slice, ...]) -> np.ndarray:
    made = np.zeros(SHAPE, np.uint8)
    for name, block in blocks.items():
        made[block] = int(name[1:])
    return made


def view(roi: RoiSettings | None, **changes: object) -> ViewSettings:
    given = {"size": (16, 16, None), "normalise": "window", "windows": ((-500, 500),), "plane": "axial"}
    return ViewSettings(**{**given, **changes}, roi=roi)


def mask_roi(**changes: object) -> RoiSettings:
    return RoiSettings(**{"source": "mask", "margin_mm": (0.0, 0.0, 0.0), **changes})


def case(folder: Path, scan: np.ndarray = SCAN, mask: np.ndarray | None = None, affine=AFFINE, **changes) -> Case:
    images = {"image": str(write(folder, "scan.nii", nifti_bytes(scan, affine)))}
    masks = {} if mask is None else {"mask": str(write(folder, "mask.nii", nifti_bytes(mask, affine)))}
    given = {"spacing": None, "center": None, "row": 2, "cells": {}, "split": None, "fold": None}
    return Case(**{"id": "a", "patient": "a", "images": images, "masks": masks, **given, **changes})


def region(one: Case, roi: RoiSettings):
    return CaseScans(one).region(view(roi))


def test_every_source_of_the_settings_is_in_the_table() -> None:
    assert set(get_args(get_type_hints(RoiSettings)["source"])) == set(ROI_SOURCES)


def test_the_box_of_a_mask_is_the_organ_with_its_margin_in_millimetres(tmp_path: Path) -> None:
    one = case(tmp_path, mask=labels(_1=ORGAN))
    assert region(one, mask_roi()).box == Box((10, 8, 4), (8, 5, 3))
    # 4 mm are 5 voxels of 0.8, 3.2 of 1.25 (3), 1.33 of 3.0 (1); beyond the scan nothing is added.
    assert region(one, mask_roi(margin_mm=(4.0, 4.0, 4.0))).box == Box((5, 5, 3), (18, 11, 5))
    assert region(one, mask_roi(margin_mm=(100.0, 50.0, 15.0))).box == Box((0, 0, 0), SHAPE)


def test_only_the_chosen_labels_count_and_an_absent_one_is_noted(tmp_path: Path) -> None:
    one = case(tmp_path, mask=labels(_1=(slice(0, 30), slice(0, 3), slice(0, 12)), _2=ORGAN))
    assert region(one, mask_roi(classes=(2,))).box == Box((10, 8, 4), (8, 5, 3))
    found = region(one, mask_roi(classes=(2, 3)))
    assert found.box == Box((10, 8, 4), (8, 5, 3)) and found.notes == ("label 3 is not in the segmentation",)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=12)
def test_B1_the_crop_is_the_same_for_every_storage(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    generator = np.random.default_rng(seed)
    folder = tmp_path_factory.mktemp("storage")
    low = [generator.integers(1, n - 6) for n in SHAPE]
    block = tuple(slice(a, a + generator.integers(2, 5)) for a in low)
    order = list(permutations(range(3)))[generator.integers(6)]
    turn = np.array(list(zip(order, list(product((1, -1), repeat=3))[generator.integers(8)], strict=True)))
    margins = tuple(float(mm) for mm in generator.uniform(0, 9, size=3))
    center = tuple(float(mm) for mm in (AFFINE @ [*[generator.uniform(0, n - 1) for n in SHAPE], 1])[:3])
    truth = case(folder, mask=labels(_1=block), center=center)
    images = {
        name: nibabel.Nifti1Image(voxels, AFFINE).as_reoriented(turn)
        for name, voxels in (("scan", SCAN), ("mask", labels(_1=block)))
    }
    files = {
        n: str(write(folder, f"t{n}.nii", nifti_bytes(np.asarray(i.dataobj), i.affine))) for n, i in images.items()
    }
    other = replace(truth, images={"image": files["scan"]}, masks={"mask": files["mask"]})
    size_mm = tuple(float(mm) for mm in generator.uniform(3, 40, size=3))
    for roi in (mask_roi(margin_mm=margins), RoiSettings(source="point", size_mm=size_mm)):
        wanted = view(roi, plane=str(generator.choice(["auto", "coronal", "sagittal"])))
        one, two = (CaseScans(each).prepare({"image": wanted}).views["image"] for each in (truth, other))
        assert np.array_equal(one.slices, two.slices) and one.notes == two.notes
        assert np.allclose(one.affine, two.affine, atol=1e-3)


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_the_crop_shows_exactly_the_organs_voxels(tmp_path: Path, plane: str) -> None:
    axes = {"axial": (0, 1, 2), "coronal": (0, 2, 1), "sagittal": (1, 2, 0)}[plane]
    counts = [(8, 5, 3)[axis] for axis in axes]
    wanted = view(mask_roi(), size=(counts[0], counts[1], None), plane=plane)
    one = case(tmp_path, mask=labels(_1=ORGAN))
    made = CaseScans(one).prepare({"image": wanted}).views["image"]
    expected = ((SCAN[ORGAN].astype(np.float32) + 500) / 1000).transpose(axes).transpose(2, 0, 1)
    assert np.allclose(made.slices[:, 0], expected, atol=1e-3)
    assert (prepare_mask(labels(_1=ORGAN), AFFINE, made) == 1).all()
    heat = to_scan_grid(np.ones_like(made.slices[:, 0]), made.affine, SHAPE, AFFINE)
    assert np.array_equal(heat > 0, labels(_1=ORGAN) > 0), "heat of a crop lies inside it, and fills it"


def test_the_field_of_view_is_about_the_centre_of_the_region(tmp_path: Path) -> None:
    one = case(tmp_path, mask=labels(_1=ORGAN))
    wanted = view(mask_roi(), size=(4, 9, None), field_of_view=(4 * 0.8, 9 * 1.25, 3 * 3.0))
    made = CaseScans(one).prepare({"image": wanted}).views["image"]
    assert np.allclose(made.affine[:3, 3], (AFFINE @ [12, 6, 4, 1])[:3])
    expected = (SCAN[12:16, 6:15, 4:7].astype(np.float32) + 500) / 1000
    assert np.allclose(made.slices[:, 0], expected.transpose(2, 0, 1), atol=1e-3)


def test_an_empty_organ_fails_takes_the_whole_scan_or_excludes(tmp_path: Path) -> None:
    for empty in (labels(), labels(_5=ORGAN)):
        one = case(tmp_path, mask=empty)
        with pytest.raises(ScanError, match=r"region of image: the region is empty.*label 2.*roi.on_empty"):
            CaseScans(one).prepare({"image": view(mask_roi(classes=(2,)))})
        with pytest.raises(ExcludedError, match="excluded: the region is empty"):
            CaseScans(one).prepare({"image": view(mask_roi(classes=(2,), on_empty="exclude"))})
        made = CaseScans(one).prepare({"image": view(mask_roi(classes=(2,), on_empty="whole"))})
        assert made.views["image"].slices.shape[0] == 12
        assert made.warnings == (
            "view image: the region is empty: no voxel of the segmentation has label 2; the whole scan is taken",
        )


def test_a_cut_organ_is_kept_with_a_note_fails_or_is_excluded(tmp_path: Path) -> None:
    cut = labels(_1=(slice(10, 18), slice(8, 13), slice(0, 7)))
    one = case(tmp_path, mask=cut)
    made = CaseScans(one).prepare({"image": view(mask_roi())})
    assert made.warnings == (
        "view image: the region is cut by the border of the scan (inferior 100% of its largest area)",
    )
    with pytest.raises(ScanError, match=r"cut by the border.*roi.on_cut"):
        CaseScans(one).prepare({"image": view(mask_roi(on_cut="fail"))})
    with pytest.raises(ExcludedError, match="excluded: the region is cut"):
        CaseScans(one).prepare({"image": view(mask_roi(on_cut="exclude"))})


def test_the_papers_rule_a_fifth_of_the_largest_area_on_an_end_slice() -> None:
    """METHODS: 'missing or at least 20 % of its end-slice area is cut'."""
    scan = Volume(voxels=SCAN.astype(np.float32), affine=AFFINE)
    roi = mask_roi(on_cut="exclude", on_empty="exclude", cut_share=0.2)
    organ = np.zeros(SHAPE, np.int32)
    organ[5:15, 5:15, 2:12] = 1  # 100 voxels on its largest slice
    for area, is_cut in ((19, False), (20, True)):
        organ[:, :, 11] = 0
        organ[5:15, 5:15, 11].flat[:area] = 1
        end = organ[5:15, 5:15, 11]
        end.ravel()[:] = 0
        organ[5:15, 5:15, 11] = (np.arange(100).reshape(10, 10) < area).astype(int)
        assert cut_shares(organ > 0)["superior"] == area / 100
        if is_cut:
            with pytest.raises(ExcludedError, match="superior 20%"):
                region_of_labels(scan, organ, roi, ())
        else:
            assert region_of_labels(scan, organ, roi, ()).notes == ()


def test_only_the_largest_part_counts_when_asked() -> None:
    scan = Volume(voxels=SCAN.astype(np.float32), affine=AFFINE)
    organ = labels(_1=ORGAN).astype(np.int32)
    organ[28, 22, 10] = 1
    assert region_of_labels(scan, organ, mask_roi(), ()).box.count == (19, 15, 7)
    assert region_of_labels(scan, organ, mask_roi(component="largest"), ()).box == Box((10, 8, 4), (8, 5, 3))


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=100)
def test_the_margin_is_right_to_half_a_voxel_and_no_voxel_of_the_organ_is_lost(seed: int) -> None:
    generator = np.random.default_rng(seed)
    shape, spacing = generator.integers(3, 20, size=3), generator.uniform(0.3, 5, size=3)
    organ = np.zeros(shape, bool)
    organ[tuple(generator.integers(0, n, size=5) for n in shape)] = True
    margin = generator.uniform(0, 12, size=3)
    box = box_about(organ, tuple(margin), tuple(spacing))
    there = np.argwhere(organ)
    for axis in range(3):
        first, last = box.first[axis], box.first[axis] + box.count[axis] - 1
        assert 0 <= first <= there[:, axis].min() and there[:, axis].max() <= last < shape[axis]
        before = (there[:, axis].min() - first) * spacing[axis]
        assert first == 0 or abs(before - margin[axis]) <= spacing[axis] * 0.501


def test_a_point_is_the_centre_of_its_box(tmp_path: Path) -> None:
    center = tuple((AFFINE @ [14, 11, 6, 1])[:3])
    roi = RoiSettings(source="point", size_mm=(8.0, 11.25, 9.0))
    found = region(case(tmp_path, center=center), roi)
    assert found.box == Box((10, 7, 5), (10, 9, 3)) or found.box == Box((9, 7, 5), (10, 9, 3))
    assert found.notes == ()


def test_a_point_near_the_border_is_padded_and_that_is_recorded(tmp_path: Path) -> None:
    center = tuple((AFFINE @ [1, 11, 11, 1])[:3])
    roi = RoiSettings(source="point", size_mm=(7 * 0.8, 5 * 1.25, 5 * 3.0))
    made = CaseScans(case(tmp_path, center=center)).prepare({"image": view(roi, size=(7, 5, None))})
    assert made.warnings == ("view image: the box reaches beyond the scan (left 1.6 mm, superior 6.0 mm): padded",)
    slices = made.views["image"].slices[:, 0].transpose(1, 2, 0)
    inside = (SCAN[0:5, 9:14, 9:12].astype(np.float32) + 500) / 1000
    assert np.allclose(slices[2:, :, :3], inside, atol=1e-3)
    assert (slices[:2] == slices.min()).all() and (slices[:, :, 3:] == slices.min()).all()
    assert np.allclose(made.views["image"].affine[:3, 3], (AFFINE @ [-2, 9, 9, 1])[:3])


def test_a_point_outside_the_scan_is_one_clear_line(tmp_path: Path) -> None:
    roi = RoiSettings(source="point", size_mm=(8.0, 8.0, 8.0))
    one = case(tmp_path, center=(10.0, -15.0, 50.0))
    with pytest.raises(ScanError, match=r"\(10, -15, 50\) lies outside the scan, which covers x -10.4 to 13.6.*LPS"):
        region(one, roi)
    with pytest.raises(ScanError, match="this case has none; fill the manifest's center_x"):
        region(case(tmp_path), roi)


def test_a_mask_of_another_grid_is_refused_with_both_grids(tmp_path: Path) -> None:
    one = case(tmp_path, mask=labels(_1=ORGAN))
    shifted = AFFINE.copy()
    shifted[0, 3] += 0.5
    for name, content, told in (
        ("smaller", nifti_bytes(labels(_1=ORGAN)[:-1], AFFINE), r"29 x 24 x 12 voxels .* the scan's is 30 x 24 x 12"),
        ("shifted", nifti_bytes(labels(_1=ORGAN), shifted), "but up to 0.5 mm away"),
        ("scaled", nifti_bytes(labels(_1=ORGAN), AFFINE * [[1.1], [1], [1], [1]]), r"0.88 x 1.25 x 3 mm"),
    ):
        path = write(tmp_path, f"{name}.nii", content)
        with pytest.raises(ScanError, match=rf"not on its scan's grid.*{told}.*resample it") as error:
            CaseScans(replace(one, masks={"mask": str(path)})).prepare({"image": view(mask_roi())})
        assert str(tmp_path) not in str(error.value), "an error shows no path"
    nearly = AFFINE.copy()
    nearly[:3, 3] += 0.02
    path = write(tmp_path, "nearly.nii", nifti_bytes(labels(_1=ORGAN), nearly))
    assert region(replace(one, masks={"mask": str(path)}), mask_roi()).box == Box((10, 8, 4), (8, 5, 3))


def test_fractions_and_missing_masks_are_refused(tmp_path: Path) -> None:
    one = case(tmp_path, mask=labels(_1=ORGAN))
    path = write(tmp_path, "soft.nii", nifti_bytes(labels(_1=ORGAN).astype(np.float32) / 2))
    with pytest.raises(ScanError, match="expected whole numbers"):
        read_on_grid(str(path), Volume(voxels=SCAN.astype(np.float32), affine=nibabel.load(path).affine))
    with pytest.raises(ScanError, match="fill the manifest's 'mask' column"):
        region(replace(one, masks={}), mask_roi())
    with pytest.raises(ScanError, match="does not exist"):
        region(replace(one, masks={"mask": str(tmp_path / "none.nii")}), mask_roi())


def test_a_view_of_its_own_takes_its_own_mask_or_the_common_one(tmp_path: Path) -> None:
    one = case(tmp_path)
    both = replace(one, masks={"mask": "common", "mask.sagittal": "own"})
    assert (both.mask("image.sagittal"), both.mask("image.axial"), both.mask("image")) == (
        "mask.sagittal",
        "mask",
        "mask",
    )
    assert one.mask("image") is None


def test_the_cache_knows_mask_point_and_settings(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    one = case(tmp_path, mask=labels(_1=ORGAN, _2=(slice(0, 4), slice(0, 4), slice(0, 4))), center=(0.0, 20.0, 55.0))

    def shown(each: Case, roi: RoiSettings | None) -> tuple[bytes, tuple[str, ...]]:
        made = CaseScans(each, cache).prepare({"image": view(roi)})
        return made.views["image"].slices.tobytes(), made.notes

    rois = [None, mask_roi(), mask_roi(classes=(1,)), mask_roi(classes=(2,)), mask_roi(margin_mm=(5.0, 5.0, 5.0))]
    rois += [RoiSettings(source="point", size_mm=(9.0, 9.0, 9.0))]
    first = [shown(one, roi) for roi in rois]
    assert len({slices for slices, _ in first}) == len(rois)
    assert [shown(one, roi) for roi in rois] == first, "and what is kept is what was made, notes too"
    assert "inferior" in first[3][1][0]
    write(tmp_path, "mask.nii", nifti_bytes(labels(_1=(slice(1, 4), slice(1, 4), slice(1, 4))), AFFINE))
    assert shown(one, mask_roi()) != first[1], "another mask under the same name"
    assert shown(replace(one, center=(3.0, 20.0, 55.0)), rois[-1]) != first[-1]


def test_training_gets_what_prediction_gets_and_excluded_cases_are_told(tmp_path: Path) -> None:
    whole = case(tmp_path, mask=labels(_1=ORGAN))
    other = replace(whole, id="b", masks={"mask": str(write(tmp_path, "empty.nii", nifti_bytes(labels(), AFFINE)))})
    views = {"image": view(mask_roi(on_empty="exclude"))}
    cache = Cache(tmp_path / "cache")
    prepared = prepare_all([whole, other], views, cache)
    assert prepared[0].excluded is None and prepared[1].excluded.startswith("region of image: excluded")
    loaded = CaseSet([whole], prepared[:1], views, cache).load(0)["image"]
    assert np.array_equal(loaded, CaseScans(whole).prepare(views).views["image"].slices)
    with pytest.raises(ManifestError, match="case 'b': region of image: the region is empty"):
        prepare_all([whole, other], {"image": view(mask_roi())}, cache)


def test_labels_of_totalsegmentator() -> None:
    assert len(TOTAL) == 117
    assert organ_labels(("small_bowel", "duodenum", "colon")) == (18, 19, 20)
    assert organ_labels(("liver", "kidney_right", "kidney_left", "spleen")) == (5, 2, 3, 1)
    with pytest.raises(UsageError, match=r"no organ 'livr', did you mean 'liver'\?"):
        check_roi(RoiSettings(source="totalsegmentator", organs=("livr",)))


def test_a_folder_and_a_file_of_totalsegmentator_give_one_region(tmp_path: Path) -> None:
    one = case(tmp_path)
    both = labels(_2=ORGAN, _3=(slice(20, 24), slice(8, 13), slice(4, 7)), _5=(slice(0, 30), slice(0, 2), slice(0, 2)))
    folder = tmp_path / "organs"
    folder.mkdir()
    for name in ("kidney_right", "kidney_left"):
        write(
            folder,
            f"{name}.nii.gz",
            gz(nifti_bytes((both == TOTAL[name]).astype(np.uint8), AFFINE)),
        )
    multilabel = write(tmp_path, "multilabel.nii", nifti_bytes(both, AFFINE))
    roi = RoiSettings(source="totalsegmentator", organs=("kidney_right", "kidney_left"), margin_mm=(0.0, 0.0, 0.0))
    for output in (folder, multilabel):
        assert region(replace(one, masks={"mask": str(output)}), roi).box == Box((10, 8, 4), (14, 5, 3))
    with pytest.raises(ScanError, match="found none for liver"):
        region(replace(one, masks={"mask": str(folder)}), replace(roi, organs=("liver", "kidney_left")))


@pytest.mark.real_data
def test_organs_of_a_real_ct_dicom_series(real_data: Path) -> None:
    """The JPEG 2000 series and its own segmentation: one grid, though one is LPS and the other LAS."""
    folder = real_data / "ct_totalsegmentator"
    one = Case(
        id="ct", patient="ct", images={"image": str(folder / "example_ct_dicom")}, cells={}, split=None, fold=None,
        masks={"mask": str(folder / "example_seg_dicom.nii.gz")}, spacing=None, center=None, row=2,
    )  # fmt: skip
    truth = np.asarray(nibabel.load(folder / "example_seg_dicom.nii.gz").dataobj)[::-1]
    present = [name for name, label in TOTAL.items() if (truth == label).sum() > 2000]
    assert present
    organs = tuple(present[:2])
    roi = RoiSettings(source="totalsegmentator", organs=organs, margin_mm=(0.0, 0.0, 0.0))
    found = np.argwhere(np.isin(truth, [TOTAL[organ] for organ in organs]))
    assert region(one, roi).box == Box(tuple(found.min(axis=0)), tuple(np.ptp(found, axis=0) + 1))


@pytest.mark.real_data
def test_a_mask_of_another_real_scan_is_refused(real_data: Path) -> None:
    scan = nibabel.load(real_data / "ct_totalsegmentator" / "example_ct.nii.gz")
    mask = nibabel.load(real_data / "ct_totalsegmentator" / "example_seg.nii.gz")
    assert "122 x 101 x 30" in grid_difference(scan, mask)
    assert grid_difference(nibabel.load(real_data / "ct_totalsegmentator" / "example_ct_sm.nii.gz"), mask) is None


millimetres = st.floats(0.4, 12)


@settings(max_examples=150)
@given(
    size=st.tuples(millimetres, millimetres, millimetres),
    field=st.tuples(millimetres, millimetres, millimetres),
    place=st.tuples(*[st.floats(-0.5, 1)] * 3),
    plane=st.sampled_from(["axial", "coronal", "sagittal"]),
)
def test_D1_the_box_about_any_point_of_a_scan_keeps_a_voxel_of_it(size, field, place, plane):
    """A point near the border, in a box of few voxels that is then narrowed: its middle may lie outside."""
    shape = (6, 7, 4)
    affine = np.diag([1.0, 1.3, 3.0, 1.0])
    scan = Volume(voxels=np.random.default_rng(0).normal(size=shape).astype(np.float32), affine=affine)
    voxel = [-0.49 if share < 0 else share * (count - 0.51) for share, count in zip(place, shape, strict=True)]
    center = tuple(float(v) for v in affine[:3, :3] @ voxel)
    roi = RoiSettings(source="point", size_mm=size)
    box = find_region(scan, "", roi, RegionSources(center=center)).box
    settings = view(roi, field_of_view=field, size=(4, 4, None), plane=plane, normalise="zscore", windows=())
    narrow = box_of_extent(permute_axes(scan, AXES[plane]), field, within=box.permuted(AXES[plane]))
    cut = crop_to(permute_axes(scan, AXES[plane]), narrow)
    assert min(cut.shape) >= 1
    if cut.voxels.size > 1:
        assert prepare_view(scan, settings, box).slices.shape[1:] == (1, 4, 4)
