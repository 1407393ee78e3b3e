"""Each rule of the plan, on numbers alone."""

from dataclasses import replace

import numpy as np
import pytest

from anymc3d.data.intensity import IntensityProfile
from anymc3d.plan.body import Tissues
from anymc3d.plan.intensity import choose_intensity
from anymc3d.plan.measure import SampledScan
from anymc3d.plan.rules import (
    Grids,
    calibration_reason,
    choose_field_of_view,
    choose_memory,
    choose_plane,
    fitting,
    patch_size_of,
    total_memory,
)
from anymc3d.plan.size import MAX_PATCHES, MAX_SLICES, choose_size
from anymc3d.plan.size_leak import SizeLeak
from anymc3d.settings.config import LabelSettings

SOMETHING = Tissues(0.0, 0.0, 0.0, 400.0)


def looked_at(*profiles: IntensityProfile) -> list[SampledScan]:
    return [SampledScan(profile, SOMETHING) for profile in profiles]


CT = IntensityProfile(-1024, -1000, -990, -500, 0, 50, 200, 900, 2000, 900)
MR = IntensityProfile(0, 0, 2, 10, 100, 200, 400, 600, 900, 500)
MASK = IntensityProfile(0, 0, 0, 0, 0, 0, 1, 1, 1, 2)


def grids(*scans):
    shapes, spacings = zip(*scans, strict=True)
    return Grids(np.array(shapes, dtype=float), np.array(spacings, dtype=float))


ABDOMEN = grids(*[((512, 512, 100), (0.8, 0.8, 3.0))] * 5)


def test_the_plane_is_that_of_most_scans_and_ties_are_axial():
    sagittal = ((30, 320, 320), (4.0, 0.5, 0.5))
    axial = ((320, 320, 30), (0.5, 0.5, 4.0))
    cube = ((64, 64, 64), (1.0, 1.0, 1.0))
    assert choose_plane(grids(sagittal, sagittal, axial))[0] == "sagittal"
    assert choose_plane(grids(sagittal, axial))[0] == "axial"
    plane, reason = choose_plane(grids(cube))
    assert plane == "axial"
    assert "all 1 scans" in reason


@pytest.mark.parametrize("patch", [14, 16])
@pytest.mark.parametrize("shape", [(512, 512, 100), (40, 60, 35), (20, 900, 300), (512, 100, 8), (7, 7, 1)])
@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_sizes_are_multiples_of_the_patch_within_the_budget(shape, patch, plane):
    height, width, num_slices = choose_size(grids((shape, (0.8, 0.8, 3.0))), plane, patch, None).value
    assert height % patch == width % patch == 0
    assert height * width <= 1.1 * MAX_PATCHES * patch**2
    assert 1 <= num_slices <= MAX_SLICES


def test_a_size_is_that_of_the_median_scan():
    scans = grids(*[(shape, (1.0, 1.0, 5.0)) for shape in ((200, 300, 20), (210, 322, 28), (400, 400, 90))])
    choice = choose_size(scans, "axial", 14, None)
    assert choice.value == (210, 322, 28)
    assert "median scan 210 x 322 px of 1 mm, 28 slices" in choice.reason


def test_small_scans_are_enlarged_to_seven_patches_and_say_so():
    choice = choose_size(grids(((35, 51, 35), (1.0, 1.0, 1.0))), "axial", 14, None)
    assert choice.value == (98, 140, 35)
    assert "enlarged 2.8 times" in choice.reason


def test_large_scans_are_limited_and_say_so():
    choice = choose_size(grids(((512, 512, 400), (0.8, 0.8, 0.8))), "axial", 14, None)
    assert choice.value == (448, 448, 128)
    assert "1024 patches" in choice.reason
    assert "at most 128 slices" in choice.reason


def test_pixels_are_square_when_a_plane_lies_across_thick_slices():
    height, width, _ = choose_size(grids(((300, 300, 60), (1.0, 1.0, 5.0))), "sagittal", 14, None).value
    assert height == width


def test_a_size_leak_pads_all_scans_to_the_largest_extent():
    scans = grids(((30, 50, 30), (1.0, 1.0, 1.0)), ((41, 40, 47), (1.0, 1.0, 1.0)))
    leak = SizeLeak(auroc=0.774, lower=0.7, measure="volume", label="small")
    field, reason = choose_field_of_view(scans, leak)
    assert field == (41.0, 50.0, 47.0)
    assert "size alone (volume) separates small with AUROC 0.77" in reason


@pytest.mark.parametrize(
    ("shapes", "expected", "words"),
    [
        (((100, 100, 100), (105, 100, 100)), None, "less than 10 %"),
        (((100, 100, 100), (100, 100, 130)), (100.0, 100.0, 130.0), "padded to the largest"),
        (((100, 100, 100), (100, 100, 100), (100, 100, 900)), None, "differ too much"),
    ],
)
def test_without_a_leak_only_moderate_differences_are_padded(shapes, expected, words):
    field, reason = choose_field_of_view(grids(*[(shape, (1.0, 1.0, 1.0)) for shape in shapes]), None)
    assert field == expected
    assert words in reason


def test_intensities_are_normalised_by_what_they_are():
    assert choose_intensity(looked_at(CT, CT, CT), ["int16"] * 3)[2:4] == ("window", ((-150.0, 250.0),))
    assert choose_intensity(looked_at(MR, MR, MR), ["int16"] * 3)[2:4] == ("percentile", ())
    assert choose_intensity(looked_at(MASK, MASK, MASK), ["int16"] * 3)[2:4] == ("window", ((0, 1),))
    bytes_ = replace(MR, maximum=255, p995=250)
    choice = choose_intensity(looked_at(bytes_, bytes_), ["uint8"] * 3)
    assert (choice.modality, choice.normalise, choice.windows) == ("other", "window", ((0, 255),))


def test_mixed_modalities_are_pointed_out():
    choice = choose_intensity(looked_at(MR, MR, CT), ["int16"] * 3)
    assert choice.modality == "MR"
    assert choice.modality_reason.startswith("MIXED")
    assert "CT" in choice.modality_reason


def test_constant_scans_do_not_make_an_empty_window():
    blank = IntensityProfile(0, 0, 0, 0, 0, 0, 0, 0, 0, 1)
    assert choose_intensity(looked_at(blank), ["uint8"]).normalise == "percentile"


def test_memory_decides_on_recomputation_and_chunk():
    roomy = choose_memory([(98, 98, 32)], "dinov2-small", 14, 64 * 2**30)
    assert roomy[:3] == (2, 64, False)
    tight = choose_memory([(448, 448, 128)], "dinov2-large", 14, 8 * 2**30)
    assert tight.recompute
    assert tight.chunk_size < 64
    assert choose_memory([(98, 98, 32)], "dinov2-small", 14, None) == roomy
    assert total_memory() is None or total_memory() > 2**28


@pytest.mark.parametrize(
    ("name", "patch"),
    [("dinov2-small", 14), ("dinov3-base", 16), ("/models/dinov2-small-fp16", 14), ("deit-patch16", 16), ("./w", 14)],
)
def test_the_patch_is_known_by_the_family(name, patch):
    assert patch_size_of(name) == patch


def test_the_calibrations_offered_are_ones_the_task_can_take():
    from anymc3d.evaluate.task_calibration import CHOICES, METHODS

    classes = LabelSettings(columns=("g",), kind="ordinal", classes=("0", "1", "2"))
    yes_no = LabelSettings(columns=("y",), kind="binary", classes=("0", "1"))
    assert "temperature" in calibration_reason(classes) and "f1" not in calibration_reason(classes)
    offered = calibration_reason(yes_no).split("; ")[1].split(" makes")[0].replace(" or ", ", ").split(", ")
    assert offered == ["f1", "crg", "f1_crg", "youden"]
    assert all(CHOICES[name].method in METHODS["binary"] for name in offered)


def cardiac(odd=()):
    """99 short-axis stacks of 250 to 350 mm; ``odd``: (place, mm along x)."""
    rng = np.random.default_rng(0)
    extents = np.column_stack([rng.uniform(250, 350, 99), rng.uniform(240, 340, 99), rng.uniform(80, 140, 99)])
    spacings = np.tile([1.37, 1.37, 10.0], (99, 1))
    for place, length in odd:
        extents[place, 0] = length
    return Grids(np.rint(extents / spacings), spacings)


def test_one_odd_scan_does_not_set_the_field_of_view():
    usual, odd = cardiac(), cardiac([(40, 800.0)])
    leak = SizeLeak(auroc=0.8, lower=0.7, measure="z", label="y")
    field, why = choose_field_of_view(odd, leak)
    assert field == pytest.approx(choose_field_of_view(usual, leak)[0], rel=0.01)
    assert "1 far larger scan is cropped" in why and "cropped" not in choose_field_of_view(usual, leak)[1]
    before, after = (
        choose_memory(
            [choose_size(grids, "axial", 14, choose_field_of_view(grids, leak)[0]).value], "dinov2-small", 14, None
        )
        for grids in (usual, odd)
    )
    assert before == after


@pytest.mark.parametrize(
    ("odd", "inside"),
    [
        ([], 99),
        ([(1, 420.0)], 99),  # a fifth larger than the next is no oddity
        ([(1, 800.0), (2, 700.0), (3, 900.0)], 96),
        ([(k, 800.0) for k in range(12)], 99),  # a group of its own
    ],
)
def test_only_a_few_far_larger_scans_are_odd(odd, inside):
    assert fitting(cardiac(odd).extents_mm).all(axis=1).sum() == inside


def test_few_scans_are_all_taken():
    assert fitting(np.array([[100.0] * 3] * 5 + [[900.0] * 3])).all()
