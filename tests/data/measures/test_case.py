"""The measures of a case: names and units, ratios and changes, what is missing, and what is kept on disk."""

import math

import nibabel as nib
import numpy as np
import pytest

from anymc3d.data.case import Case
from anymc3d.data.case_scans import CaseScans
from anymc3d.data.measures import measure_cache
from anymc3d.data.measures.case import GROUPS, MOST_STRUCTURES, MeasureRequest, as_numbers, completed, measure_case
from anymc3d.data.measures.measure_cache import measured
from anymc3d.errors import ScanError

BOTH = ("image.ed", "image.es")


@pytest.fixture
def heart(tmp_path):
    """Two phases of a cavity (1) in a wall (2): 10 and 6 voxels wide, 2 mm a voxel."""
    images, masks = {}, {}
    rng = np.random.default_rng(0)
    for view, side in (("ed", 10), ("es", 6)):
        labels = np.zeros((20, 20, 20), np.uint8)
        labels[3:17, 3:17, 3:17] = 2
        labels[5 : 5 + side, 5 : 5 + side, 5 : 5 + side] = 1
        voxels = rng.normal(100, 5, labels.shape).astype(np.float32) + 50 * (labels == 1)
        affine = np.diag([2.0, 2.0, 2.0, 1.0])
        for name, data in (("scan", voxels), ("mask", labels)):
            nib.save(nib.Nifti1Image(data, affine), tmp_path / f"{name}_{view}.nii.gz")
        images[f"image.{view}"] = str(tmp_path / f"scan_{view}.nii.gz")
        masks[f"mask.{view}"] = str(tmp_path / f"mask_{view}.nii.gz")
    return Case(
        id="a",
        patient="a",
        images=images,
        masks=masks,
        cells={},
        split=None,
        fold=None,
        spacing=None,
        center=None,
        row=2,
    )


def wanted(*groups, **more):
    return MeasureRequest(columns=BOTH, groups=groups, **more)


def test_sizes_ratios_and_changes_are_those_that_were_drawn(heart):
    found = measure_case(CaseScans(heart), wanted("size"))
    assert found["image.ed/1/volume_ml"] == pytest.approx(8.0)
    assert found["image.es/1/volume_ml"] == pytest.approx(6**3 * 8 / 1000)
    assert found["image.ed/1/extent_x_mm"] == 20
    assert found["image.ed:image.es/1/volume_log_ratio"] == pytest.approx(math.log(10**3 / 6**3))
    assert found["image.ed/1:2/volume_log_ratio"] == pytest.approx(math.log(1000 / (14**3 - 1000)))
    assert found["image.ed/2/absent"] == 0
    assert not any("/mean" in name for name in found), "intensities are of the group structure"


def test_intensities_inside_are_against_the_scan_and_differ_between_views(heart):
    found = measure_case(CaseScans(heart), wanted("structure"))
    assert found["image.ed/1/mean"] > 2 * found["image.ed/2/spread"]
    assert "image.ed:image.es/1/sphericity_difference" in found
    assert "image.ed/1/mean_hu" not in found
    hounsfield = measure_case(CaseScans(heart), wanted("structure", modality="CT"))
    assert hounsfield["image.ed/1/mean_hu"] == pytest.approx(150, abs=2)


def test_without_masks_the_scan_and_what_stands_out_are_measured(heart):
    found = measure_case(CaseScans(heart), wanted("scan", "foreground"))
    assert found["image.ed/scan/extent_x_mm"] == 40
    assert found["image.ed/scan/raw_p50"] == pytest.approx(100, abs=3)
    assert found["image.ed/foreground/volume_ml"] == pytest.approx(8.0, rel=0.02)
    assert found["image.ed/foreground/share"] == pytest.approx(1000 / 8000, rel=0.02)


def test_what_is_not_there_is_not_a_number_and_a_missing_mask_is_an_error(heart):
    labels = wanted("size", structures=(1, 5))
    found = measure_case(CaseScans(heart), labels)
    assert found["image.ed/5/absent"] == 1 and math.isnan(found["image.ed/5/volume_ml"])
    assert math.isnan(found["image.ed/1:5/volume_log_ratio"])
    own = measure_case(CaseScans(heart), wanted("size"))
    names = ["image.ed/5/absent", "image.ed/5/volume_ml", "image.ed/1/volume_ml"]
    numbers = as_numbers(completed(own, names, None), names)
    assert numbers[0] == 1 and math.isnan(numbers[1]) and numbers[2] == pytest.approx(math.log(8))
    assert math.isnan(as_numbers(completed(own, names, frozenset({1, 2})), names)[0]), "nobody looked for it"
    alone = Case(**{**vars(heart), "masks": {"mask.ed": heart.masks["mask.ed"]}})
    with pytest.raises(ScanError, match=r"image.es: its segmentation is needed"):
        measure_case(CaseScans(alone), wanted("size"))
    one = Case(**{**vars(heart), "images": {"image.ed": heart.images["image.ed"]}})
    of_one = measure_case(CaseScans(one), wanted("size"))
    assert all(math.isnan(value) for name, value in of_one.items() if "image.es" in name)


def test_a_mask_of_very_many_structures_is_refused(heart, tmp_path):
    labels = np.arange(20**3, dtype=np.int16).reshape(20, 20, 20) % (MOST_STRUCTURES + 2)
    nib.save(nib.Nifti1Image(labels, np.diag([2.0, 2.0, 2.0, 1.0])), tmp_path / "mask_ed.nii.gz")
    with pytest.raises(ScanError, match=f"at most {MOST_STRUCTURES} structures"):
        measure_case(CaseScans(heart), wanted("size"))


def test_measures_are_kept_by_the_content_of_scan_and_mask(heart, tmp_path, monkeypatch):
    asked = wanted("size")
    first = measured(CaseScans(heart), asked, tmp_path / "kept")
    monkeypatch.setattr(measure_cache, "measure_case", None)
    again = measured(CaseScans(heart), asked, tmp_path / "kept")
    assert again == first
    (entry,) = (tmp_path / "kept").glob("*.json")
    assert entry.stat().st_mode & 0o077 == 0
    monkeypatch.undo()
    entry.write_text("{")
    assert measured(CaseScans(heart), asked, tmp_path / "kept") == first
    labels = np.ones((20, 20, 20), np.uint8)
    nib.save(nib.Nifti1Image(labels, np.diag([2.0, 2.0, 2.0, 1.0])), tmp_path / "mask_ed.nii.gz")
    assert measured(CaseScans(heart), asked, tmp_path / "kept") != first


def test_every_group_says_whether_it_needs_masks():
    assert {name for name, group in GROUPS.items() if group.needs_mask} == {"size", "structure"}
