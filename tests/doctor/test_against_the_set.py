"""B10, B13: a scan is judged by its set: how bright and how alike the others are, where masks end, which planes."""

from __future__ import annotations

import base64

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from anymc3d.data.case import Case
from anymc3d.data.intensity import IntensityProfile
from anymc3d.data.volume import Volume
from anymc3d.doctor.duplicates import duplicate_faults
from anymc3d.doctor.facts import Grid, MaskFacts, ScanFacts, VoxelFacts
from anymc3d.doctor.header_faults import header_faults
from anymc3d.doctor.histograms import histogram
from anymc3d.doctor.intensity_faults import label_by_brightness, scale_faults
from anymc3d.doctor.label_faults import Labels
from anymc3d.doctor.mask_faults import mask_faults
from anymc3d.doctor.measure import voxel_facts
from anymc3d.doctor.scans import Readable, Scan
from anymc3d.settings.config import LabelSettings

BINARY = LabelSettings(columns=("y",), kind="binary", classes=("0", "1"))


def case(index):
    return Case(f"c{index:02d}", f"p{index}", {"image": f"c{index}.nii"}, {}, {}, None, None, None, None, index + 2)


def labelled(values):
    return Labels(BINARY, np.array(values, dtype=float).reshape(-1, 1))


# ------------------------------------------------------------------------------------------------ brightness


def bright(index, level, distinct=2000):
    seen = IntensityProfile(0, 0, 0, level / 4, level / 2, level * 0.7, level * 0.9, level, level * 1.1, distinct)
    voxels = VoxelFacts(seen, (0,), False, 0.0, 0, 0, 10, (str(index),), base64.b64encode(b"\0" * 8192).decode())
    return Readable(Scan(index, case(index), "image", ScanFacts(voxels=voxels)), voxels)


RNG = np.random.default_rng(0)
USUAL = (500 * np.exp(RNG.normal(0, 0.4, 76))).tolist()


def test_B10_a_few_scans_far_brighter_and_all_of_one_class_are_named():
    levels = [*USUAL[:40], *[level * 240 for level in USUAL[:4]], *USUAL[40:]]
    values = [float(40 <= k < 44 or k % 3 == 0) for k in range(80)]
    (finding,) = scale_faults([bright(k, level) for k, level in enumerate(levels)], labelled(values))
    assert finding.check == "intensity-scale" and finding.severity == "warning"
    assert finding.cases == ("c40", "c41", "c42", "c43")
    assert finding.message.startswith("4 of 80 scans are about 2") and "times brighter" in finding.message
    assert finding.message.endswith("; all of them have y = 1")


def test_B10_darker_scans_and_mixed_classes():
    levels = [level / 300 if k in (3, 8) else level for k, level in enumerate(USUAL)]
    (finding,) = scale_faults(
        [bright(k, level) for k, level in enumerate(levels)], labelled([k % 2 == 0 for k in range(76)])
    )
    assert (
        finding.cases == ("c03", "c08") and "times darker" in finding.message and "all of them" not in finding.message
    )


@pytest.mark.parametrize(
    "levels",
    [
        USUAL,
        [level * (25 if k % 2 else 1) for k, level in enumerate(USUAL)],  # two scanners
        [level * 6 if k == 3 else level for k, level in enumerate(USUAL)],  # MR has no absolute scale
        [*USUAL[:3], 1e6],  # too few to compare
    ],
    ids=["usual", "two scanners", "six times", "few"],
)
def test_brightness_that_is_usual_is_not_told(levels):
    assert scale_faults([bright(k, level) for k, level in enumerate(levels)], labelled([0] * len(levels))) == []


def test_B10_half_of_a_set_far_brighter_tells_the_label():
    levels = [level * (10 if k % 2 else 1) for k, level in enumerate(USUAL)]
    scans = [bright(k, level) for k, level in enumerate(levels)]
    (finding,) = label_by_brightness(scans, labelled([float(k % 2) for k in range(76)]))
    assert finding.check == "label-by-brightness" and "alone predicts y: AUROC 1.00" in finding.message
    assert not label_by_brightness(scans, labelled([float(k % 4 > 1) for k in range(76)]))
    assert not label_by_brightness(
        [bright(k, USUAL[k]) for k in range(76)], labelled([float(k % 2) for k in range(76)])
    )


def test_masks_have_no_brightness():
    assert scale_faults([bright(k, 1 if k else 255, distinct=2) for k in range(20)], labelled([0] * 20)) == []


# ------------------------------------------------------------------------------------------------ histograms


def test_a_histogram_shows_what_most_scans_are_and_names_the_rest():
    values = np.array([*np.linspace(50, 800, 76), 183_087, 190_000, 200_000, 224_106])
    drawn = histogram("Median", "units", values, [f"h{k}" for k in range(80)])
    assert (drawn.edges[0], drawn.edges[-1]) == (50, 800) and sum(drawn.counts) == 76
    assert sum(count > 0 for count in drawn.counts) > 10
    assert drawn.beyond == "not shown: 4 scans at 183,087 to 224,106 (h76, h77, h78, h79)"


@pytest.mark.parametrize("values", [np.linspace(1, 9, 40), np.array([1.0] * 39 + [2.5]), np.repeat([1.0, 100.0], 20)])
def test_a_histogram_without_far_values_shows_all(values):
    drawn = histogram("Spacing", "mm", values, [str(k) for k in range(40)])
    assert sum(drawn.counts) == 40 and drawn.beyond == ""


# ------------------------------------------------------------------------------------------- near-duplicates


def registered(count, variation, seed=0):
    """Heads that were all registered to one template, each a little different."""
    rng, shape = np.random.default_rng(seed), (32, 36, 32)
    axes = np.meshgrid(*(np.linspace(-1, 1, side) for side in shape), indexing="ij")
    head = sum(axis**2 for axis in axes) < 0.9
    template = gaussian_filter(rng.normal(size=shape), 2)
    template /= template.std()
    found = []
    for _ in range(count):
        own = gaussian_filter(rng.normal(size=shape), 3)
        found.append((600 + 200 * template + variation * 200 * own / own.std()) * head * rng.uniform(0.5, 2))
    return found


def readable(volumes):
    found = []
    for index, voxels in enumerate(volumes):
        volume = Volume(voxels=np.asfortranarray(voxels.astype(np.float32)), affine=np.eye(4))
        facts = voxel_facts(volume)
        found.append(Readable(Scan(index, case(index), "image", ScanFacts(voxels=facts)), facts))
    return found


@pytest.mark.parametrize("variation", [0.05, 0.1, 1.0])
def test_B13_in_a_registered_set_only_the_real_duplicate_is_told(variation):
    volumes = registered(20, variation)
    rng = np.random.default_rng(1)
    noisy = volumes[4] + rng.normal(0, 0.02 * volumes[4].std(), volumes[4].shape)
    low, high = volumes[9].min(), volumes[9].max()
    eight_bits = np.rint((volumes[9] - low) / (high - low) * 255)
    scans = readable([*volumes, noisy, eight_bits])
    alike = np.stack([one.voxels.vector() for one in scans])
    if variation < 1:
        assert np.quantile((alike @ alike.T)[np.triu_indices(22, 1)], 0.1) > 0.995, "all are almost the same"
    found = duplicate_faults(scans, labelled([0] * 22))
    assert [(one.check, one.cases) for one in found] == [
        ("near-duplicate", ("c04", "c20")),
        ("near-duplicate", ("c09", "c21")),
    ]


# ---------------------------------------------------------------------------------------------------- masks


def mask(*sides):
    return ScanFacts(mask=MaskFacts({"0": 900, "1": 100}, True, sides))


def mask_checks(facts):
    masks = {(index, "mask"): one for index, one in enumerate(facts)}
    return mask_faults([case(index) for index in range(len(facts))], {}, masks)


def test_a_stack_that_simply_ends_is_not_cut():
    found = mask_checks([mask("inferior", "superior")] * 19 + [mask()])
    assert [one.check for one in found] == ["mask-at-border"]
    assert "in most of 20 masks the region ends at the inferior and superior border" in found[0].message


def test_a_region_that_is_cut_elsewhere_or_in_few_scans_is_told():
    found = mask_checks([mask("inferior", "superior")] * 19 + [mask("superior", "left")])
    assert {(one.check, one.cases, one.message) for one in found if one.check == "mask-cut"} == {
        ("mask-cut", ("c19",), "the region ends at the left border")
    }
    found = mask_checks([mask()] * 17 + [mask("superior")] * 3)
    assert [(one.check, one.cases) for one in found] == [("mask-cut", ("c17", "c18", "c19"))]
    assert [one.check for one in mask_checks([mask("superior")] * 3)] == ["mask-cut"], "three do not say what is usual"


# --------------------------------------------------------------------------------------------------- planes


def test_B2_planes_in_one_column_are_one_finding_and_no_outliers():
    def scan(index, shape, spacing):
        rows = tuple(tuple(float(x) for x in row) for row in np.diag([*spacing, 1.0]))
        return Scan(index, case(index), "image", ScanFacts(grid=Grid(shape, rows, "int16")))

    axial = [scan(k, (48, 48, 8), (1, 1, 6)) for k in range(16)]
    sagittal = [scan(16 + k, (8, 48, 48), (6, 1, 1)) for k in range(14)]
    found = header_faults([*axial, *sagittal], Labels(None, np.full((30, 1), np.nan)))
    assert [(one.check, one.message) for one in found] == [
        ("planes-mixed", "14 of 30 scans were acquired sagittally, 16 axially")
    ]
    assert found[0].cases == tuple(f"c{k}" for k in range(16, 30))
    one_odd = header_faults([*axial, sagittal[0]], Labels(None, np.full((30, 1), np.nan)))
    assert [(one.check, one.cases) for one in one_odd] == [("planes-mixed", ("c16",))]
