"""Which CT windows are proposed: what the Hounsfield units can tell, and no more."""

from dataclasses import replace

import nibabel
import numpy as np
import pytest

from anymc3d.data.volume import Volume
from anymc3d.plan.body import Tissues, choose_ct_windows, tissues
from anymc3d.plan.intensity import choose_intensity
from anymc3d.plan.measure import SampledScan
from anymc3d.plan.region import mask_extents, propose_region

CHEST = Tissues(lung=4.0, brain=3.0, dense=0.3, in_plane_mm=380)
HEAD = Tissues(lung=0.05, brain=1.4, dense=0.4, in_plane_mm=230)
ABDOMEN = Tissues(lung=0.4, brain=6.0, dense=0.2, in_plane_mm=400)
CROP = Tissues(lung=0.0, brain=0.1, dense=0.0, in_plane_mm=60)


@pytest.mark.parametrize(
    ("seen", "windows", "words"),
    [
        (CHEST, ((-1000, 1000), (-150, 250), (-1000, 400)), "a chest (4.0 l of lung): ct-rate-wide, abdomen, lung"),
        (HEAD, ((-20, 180), (0, 80), (-800, 2000)), "a head (230 mm wide"),
        (ABDOMEN, ((-150, 250),), "cannot be determined; check"),
        (CROP, ((-150, 250),), "cannot be determined; check"),
        (replace(HEAD, in_plane_mm=400), ((-150, 250),), "cannot be determined"),
        (replace(HEAD, dense=0.02), ((-150, 250),), "cannot be determined"),
    ],
)
def test_a_chest_and_a_head_are_told_and_nothing_else(seen, windows, words):
    chosen, reason = choose_ct_windows([seen] * 3)
    assert chosen == windows
    assert words in reason


def test_the_majority_decides():
    assert choose_ct_windows([HEAD, CHEST, CHEST])[0] == choose_ct_windows([CHEST])[0]
    assert "2 of 3" in choose_ct_windows([HEAD, CHEST, CHEST])[1]


def thorax(order=(0, 1, 2), flips=(1, 1, 1)):
    """Air, a body of soft tissue, two lungs of 1.1 litres each; stored in another order of the axes."""
    voxels = np.full((90, 70, 60), -1000.0, dtype=np.float32)
    voxels[10:80, 10:60] = 40
    voxels[15:40, 20:50, 8:52] = voxels[50:75, 20:50, 8:52] = -800
    affine = np.diag([4.0, 4.0, 4.0, 1.0])
    turned = voxels.transpose(order)[tuple(slice(None, None, flip) for flip in flips)]
    affine = affine[:, [*order, 3]] @ np.diag([*flips, 1.0])
    return Volume(np.ascontiguousarray(turned), affine)


def test_lungs_are_measured_in_litres():
    seen = tissues(thorax())
    assert seen.lung == pytest.approx(2 * 25 * 30 * 44 * 64 / 1e6, rel=0.01)
    assert seen.in_plane_mm == 360
    assert seen.part == "chest"


@pytest.mark.parametrize(("order", "flips"), [((2, 0, 1), (1, 1, 1)), ((1, 2, 0), (-1, 1, -1))])
def test_B1_storage_does_not_change_what_part_of_the_body_it_is(order, flips):
    first, second = tissues(thorax()), tissues(thorax(order, flips))
    assert second.in_plane_mm == first.in_plane_mm
    assert second.lung == pytest.approx(first.lung, rel=0.02)


def test_windows_that_were_asked_for_are_taken():
    from anymc3d.data.intensity import IntensityProfile

    ct = IntensityProfile(-1024, -1000, -990, -500, 0, 50, 200, 900, 2000, 900)
    mr = IntensityProfile(0, 0, 2, 10, 100, 200, 400, 600, 900, 500)
    choice = choose_intensity([SampledScan(ct, CHEST)], ["int16"], windows=((-1000.0, 400.0),))
    assert choice[2:] == ("window", ((-1000.0, 400.0),), "asked for: lung")
    choice = choose_intensity([SampledScan(mr, CROP)], ["int16"], windows=((0.0, 5.0),))
    assert "do not look like CT" in choice.normalise_reason


EXTENTS = np.array([[100.0, 100.0, 100.0]])


def test_a_region_is_proposed_and_never_taken():
    small, large = np.array([40.0, 40.0, 40.0]), np.array([90.0, 90.0, 90.0])
    assert propose_region([], EXTENTS, has_points=False) is None
    assert "point of interest" in propose_region([], EXTENTS, has_points=True)
    assert "40 x 40 x 40 mm, 6% of the scan: --roi mask" in propose_region([small] * 3, EXTENTS, has_points=False)
    assert "little to gain" in propose_region([large], EXTENTS, has_points=False)
    assert "1 of 2 masks looked at are empty or unreadable" in propose_region([small, None], EXTENTS, has_points=True)


def test_the_box_of_a_mask_is_in_millimetres_with_a_margin(tmp_path):
    from anymc3d.data.manifest import read_manifest

    for name, inside in (("a", True), ("empty", False)):
        voxels = np.zeros((40, 30, 20), dtype=np.uint8)
        voxels[10:15, 10:20, 8:10] = 3 if inside else 0
        nibabel.save(nibabel.Nifti1Image(voxels, np.diag([2.0, 2.0, 5.0, 1.0])), tmp_path / f"{name}.nii")
    (tmp_path / "broken.nii").write_bytes(b"no scan")
    (tmp_path / "m.csv").write_text("image,mask\na.nii,a.nii\nempty.nii,empty.nii\nbroken.nii,broken.nii\n")
    cases = read_manifest(tmp_path / "m.csv").cases
    boxes = mask_extents(dict(enumerate(cases)), "image")
    assert len(boxes) == 3
    assert boxes[0].tolist() == [30.0, 40.0, 30.0]
    assert boxes[1] is boxes[2] is None
