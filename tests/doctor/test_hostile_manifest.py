"""A14, B13, B14: one manifest with more than forty planted faults: the report names each once, and nothing else."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from data_set_makers import AFFINE, SHAPE, DataSet, body, organ, save, whole

from anymc3d.doctor.examine import Examination, examine

Expected = list[tuple[str, frozenset[str]]]


def table_faults(made: DataSet) -> Expected:
    """Faults that need no scan to be opened."""
    made.rows[0]["Fold"] = ""
    made.add("bad_id")["case"] = "bad/id"
    made.add("gone")["image"] = "elsewhere/gone.nii"
    made.add("nothing")["image"] = ""
    made.add("training")["split"] = "training"
    made.add("no_split")["split"] = ""
    made.add("leak", patient="p001", split="test")
    made.add("word")["lesion"] = "NA"
    made.add("two")["lesion"] = 2
    made.add("empty")["lesion"] = ""
    made.add("coordinates")["center_x"] = "left"
    made.add("twin_id")
    made.add("twin_id_again")["case"] = "twin_id"
    made.extra_lines.append("ragged,row")
    return [
        ("manifest-column", frozenset()),
        ("manifest-row", frozenset()),
        ("manifest-cell", frozenset({"coordinates"})),
        ("id-unsafe", frozenset({"bad/id"})),
        ("id-duplicate", frozenset({"twin_id"})),
        ("scan-not-found", frozenset({"gone"})),
        ("scan-missing", frozenset({"nothing"})),
        ("view-missing", frozenset({"c05", "c13", "c21", "outside"})),
        ("split-name", frozenset({"training"})),
        ("split-partly", frozenset({"no_split"})),
        ("patient-in-two-splits", frozenset({"c01", "leak"})),
        ("label-word-for-missing", frozenset({"word"})),
        ("label-outside", frozenset({"two"})),
        ("label-missing", frozenset({"empty"})),
    ]


def scan_faults(made: DataSet) -> Expected:
    """Faults of single scans."""
    truncated = made.add("truncated")["image"]
    (made.folder / truncated).write_bytes((made.folder / truncated).read_bytes()[:-500])
    nan = body(150).astype(np.float32)
    nan[3, 4, 5] = np.nan
    made.add("not_finite", nan)
    made.add("constant", np.full(SHAPE, 7, dtype=np.int16))
    made.add("no_codes", codes=0, affine=np.diag([9.0, 10.0, 14.0, 1.0]))
    row = made.add("mask_as_image", organ(160))
    row["mask"] = row["image"]
    blank, repeated = body(161), body(162)
    blank[:, :, 6:8] = -1000
    repeated[:, :, 9] = repeated[:, :, 3]
    made.add("blank_slices", blank)
    made.add("repeated_slices", repeated)
    made.add("unscaled", (body(163) + 1024).astype(np.int16))
    made.add("rescaled_twice", (body(164) - 1024).astype(np.int16))
    made.add("windowed", np.interp(body(165), (-160, 240), (0, 255)).astype(np.uint8))
    bones = body(166)
    made.add("only_bone", np.where(bones > -500, bones + 1500, bones).astype(np.int16))
    padded = body(167)
    padded[:4, :4, :] = -2000
    made.add("padded", padded)
    made.add("mr", np.abs(body(168) + np.int16(1000)).astype(np.int16) // 3 + 400)
    made.add("turned", np.ascontiguousarray(body(169)[:, ::-1, ::-1]))
    made.add("thick", affine=AFFINE @ np.diag([1, 1, 4.0, 1]))
    made.add("wide", np.pad(body(171), ((0, 0), (0, 42), (0, 0)), constant_values=-1000), _pad(organ(171), (0, 42)))
    made.add("stored_lps", body(172)[::-1, ::-1], organ(172)[::-1, ::-1], affine=_flipped(AFFINE))
    made.add("outside", center_x=140, center_y=900, center_z=40)
    return [
        ("scan-unreadable", frozenset({"truncated"})),
        ("scan-not-finite", frozenset({"not_finite"})),
        ("scan-constant", frozenset({"constant"})),
        ("scan-ambiguous", frozenset({"no_codes"})),
        ("scan-is-mask", frozenset({"mask_as_image"})),
        ("constant-slices", frozenset({"blank_slices"})),
        ("duplicate-slices", frozenset({"repeated_slices"})),
        ("hu-offset", frozenset({"unscaled"})),
        ("hu-rescaled-twice", frozenset({"rescaled_twice"})),
        ("hu-windowed", frozenset({"windowed"})),
        ("modality-differs", frozenset({"mr"})),
        ("hu-implausible", frozenset({"only_bone"})),
        ("hu-padding", frozenset({"padded"})),
        ("flip-suspected", frozenset({"turned"})),
        ("spacing-outlier", frozenset({"thick"})),
        ("size-outlier", frozenset({"wide"})),
        ("orientation-differs", frozenset({"stored_lps", "copy_test"})),
        ("storage-differs", frozenset({"not_finite", "copy_test"})),
        ("storage-differs", frozenset({"mask_as_image", "windowed"})),
        ("center-outside", frozenset({"outside"})),
    ]


def copy_faults(made: DataSet) -> Expected:
    """The same scan again, in another storage, and almost the same one."""
    flipped = body(2)[::-1, ::-1].astype(np.float32)
    made.add("copy_test", flipped, organ(2)[::-1, ::-1], affine=_flipped(AFFINE), split="test")
    made.add("copy_label", body(3), lesion=0)
    made.add("copy_again", body(4), lesion=0)
    noisy = body(5) + np.random.default_rng(5).normal(0, 5, SHAPE)
    made.add("noisy", noisy.astype(np.int16))
    return [
        ("same-scan-in-two-splits", frozenset({"c02", "copy_test"})),
        ("same-scan-other-label", frozenset({"c03", "copy_label"})),
        ("same-scan-again", frozenset({"c04", "copy_again"})),
        ("near-duplicate", frozenset({"c05", "noisy"})),
    ]


def mask_faults(made: DataSet) -> Expected:
    """Faults of single masks."""
    broken = made.add("mask_broken")["mask"]
    (made.folder / broken).write_bytes(b"no mask at all")
    moved = AFFINE.copy()
    moved[0, 3] += 30
    made.add("mask_moved", mask_affine=moved)
    made.add("mask_other_shape", None, organ(0)[:-2])
    made.add("mask_empty", None, np.zeros(SHAPE, np.uint8))
    nearly_all = np.ones(SHAPE, np.uint8)
    nearly_all[0], nearly_all[1, 0] = 0, 2
    made.add("mask_whole", None, nearly_all)
    made.add("mask_fractions", None, organ(1).astype(np.float32) / 2)
    made.add("mask_lacks", None, (organ(2) > 0).astype(np.uint8))
    strange = organ(3)
    strange[6, 6, 6] = 9
    made.add("mask_strange", None, strange)
    cut = organ(4)
    cut[8:12, 8:18, :] = 1
    made.add("mask_cut", None, cut)
    return [
        ("mask-unreadable", frozenset({"mask_broken"})),
        ("mask-grid", frozenset({"mask_moved"})),
        ("mask-grid", frozenset({"mask_other_shape"})),
        ("mask-empty", frozenset({"mask_empty"})),
        ("mask-whole", frozenset({"mask_whole"})),
        ("mask-not-integer", frozenset({"mask_fractions"})),
        ("mask-value-absent", frozenset({"mask_lacks"})),
        ("mask-value-unknown", frozenset({"mask_strange"})),
        ("mask-cut", frozenset({"mask_cut"})),
    ]


def second_views(made: DataSet) -> None:
    """A second scan of every case but three, and none for the case that has no scan at all."""
    rng = np.random.default_rng(9)
    for index, row in enumerate(made.rows):
        if row["case"] not in ("nothing", "outside") and index not in (5, 13, 21):
            voxels = rng.normal(500, 100, (20, 20, 12)).clip(0).astype(np.int16)
            row["image.second"] = save(made.folder / f"second{index}.nii", voxels).name


def _flipped(affine: np.ndarray) -> np.ndarray:
    """Of a grid whose first two axes are stored the other way round."""
    back = np.diag([-1.0, -1.0, 1.0, 1.0])
    back[:2, 3] = np.array(SHAPE[:2]) - 1
    return affine @ back


def _pad(mask: np.ndarray, width: tuple[int, int]) -> np.ndarray:
    return np.pad(mask, ((0, 0), width, (0, 0)))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory) -> tuple[Examination, Expected]:
    made = whole(tmp_path_factory.mktemp("hostile"))
    expected: Expected = []
    for plant in (table_faults, scan_faults, copy_faults, mask_faults):
        expected += plant(made)
    second_views(made)
    return examine(made.write(), labels=("lesion", "rare")), expected


def test_A14_every_planted_fault_is_named_once_and_nothing_else(hostile):
    seen, expected = hostile
    reported = Counter((one.check, frozenset(one.cases)) for one in seen.findings)
    wanted = Counter(expected)
    assert reported - wanted == Counter(), "more was reported than planted"
    assert wanted - reported == Counter(), "a planted fault was not reported"
    assert len(expected) > 40
