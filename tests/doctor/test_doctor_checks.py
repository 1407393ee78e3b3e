"""Checks that need many cases or no scan: labels, leaks beside the anatomy, splits, grids."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from anymc3d.data.case import Case
from anymc3d.data.intensity import IntensityProfile
from anymc3d.data.manifest import inspect_manifest
from anymc3d.doctor import checks
from anymc3d.doctor.checks import CHECKS, SEVERITIES, Finding, condensed, grouped, in_order
from anymc3d.doctor.facts import HISTOGRAM_BINS, HISTOGRAM_LOW, HISTOGRAM_STEP, Grid, ScanFacts, VoxelFacts
from anymc3d.doctor.header_faults import header_faults
from anymc3d.doctor.label_faults import Labels, labels_by_site, read_labels
from anymc3d.doctor.manifest_faults import manifest_faults
from anymc3d.doctor.scans import Scan, of_column
from anymc3d.doctor.voxel_faults import voxel_faults
from anymc3d.settings.config import LabelSettings

NOTHING = Labels(None, np.full((1000, 1), np.nan))
BINARY = LabelSettings(columns=("label",), kind="binary", classes=("0", "1"))


def manifest_of(folder, lines, header="case,image,label"):
    path = folder / "manifest.csv"
    (folder / "a.nii").touch()
    path.write_text("\n".join([header, *lines]) + "\n")
    return inspect_manifest(path)


def label_checks(folder, cells, settings=None, columns=("label",), **options):
    rows = [f"c{index},a.nii,{cell}" for index, cell in enumerate(cells)]
    manifest, _ = manifest_of(folder, rows, **options)
    return {one.check: one for one in read_labels(manifest, columns, settings)[1]}


BALANCED = ["0", "1"] * 12


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (BALANCED, set()),
        (["0"] * 20, {"label-constant"}),
        (["a", "A"] * 12 + ["b"] * 12, {"label-spelling"}),
        ([f"{index}.5" for index in range(30)], {"label-number"}),
        ([f"text {index}" for index in range(12)], {"label-no-class"}),
        ([""] * 20, {"label-column"}),
        (["", *BALANCED], {"label-missing"}),
        (["N/A", *BALANCED], {"label-word-for-missing"}),
        (["yes", *BALANCED], {"label-word-for-missing"}),
        (["-1"] * 3 + BALANCED, {"label-word-for-missing"}),
        (["99"] * 3 + BALANCED, {"label-word-for-missing"}),
        (["unclear"] * 3 + ["yes", "no"] * 12, {"label-word-for-missing"}),
        (["2"] * 12 + BALANCED, set()),
        (["HGG", "LGG"] * 12, {"label-guessed"}),
        (["injured", "not injured"] * 12, set()),
        (["1"] * 9 + ["0"] * 12, {"label-rare"}),
        (["1"] * 10 + ["0"] * 12, set()),
    ],
)
def test_B14_label_columns_whose_classes_nobody_named(tmp_path, cells, expected):
    assert set(label_checks(tmp_path, cells)) == expected


def test_B14_a_task_names_its_classes(tmp_path):
    found = label_checks(tmp_path, [*BALANCED, "2", "no"], BINARY)
    assert set(found) == {"label-outside"}
    assert set(label_checks(tmp_path, ["0"] * 24, BINARY)) == {"label-constant"}


def test_B14_a_class_that_is_absent_in_a_split(tmp_path):
    def split_checks(train, val):
        lines = [f"t{i},a.nii,{label},train" for i, label in enumerate(train)]
        lines += [f"v{i},a.nii,{label},val" for i, label in enumerate(val)]
        manifest, _ = manifest_of(tmp_path, lines, header="case,image,label,split")
        return {one.check: one.message for one in read_labels(manifest, ("label",), BINARY)[1]}

    assert split_checks(BALANCED, BALANCED) == {}
    assert split_checks(BALANCED, ["0"] * 12) == {"label-absent-in-split": "no case of val has label = 1"}
    assert split_checks(["0"] * 12, BALANCED) == {"label-absent-in-train": "no case of train has label = 1"}


def test_an_id_that_tells_the_label(tmp_path):
    def ids(words):
        lines = [f"{word}_{index:03d},a.nii,{index % 2}" for index, word in enumerate(words)]
        manifest, _ = manifest_of(tmp_path, lines)
        return [one.message for one in read_labels(manifest, ("label",), None)[1]]

    assert ids(["tumor" if index % 2 else "plain" for index in range(40)]) == [
        "ids with 'plain' are those of label = 0"
    ]
    assert ids(["tumor" if index % 3 else "plain" for index in range(40)]) == []
    assert ids(["scan"] * 40) == []


@pytest.mark.parametrize(
    ("column", "aligned", "told"),
    [("site", True, True), ("site", False, False), ("ScannerModel", True, True), ("sex", True, False)],
)
def test_a_site_that_tells_the_label(tmp_path, column, aligned, told):
    lines = [f"c{i},a.nii,{i % 2},{'AB'[(i if aligned else i // 2) % 2]}" for i in range(60)]
    column = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", column)
    manifest, _ = manifest_of(tmp_path, lines, header=f"case,image,label,{column}")
    labels, _ = read_labels(manifest, ("label",), BINARY)
    found = labels_by_site(manifest, labels)
    assert bool(found) is told
    assert not told or (found[0].check, column in found[0].message) == ("label-by-site", True)


def manifest_checks(folder, lines, header):
    manifest, problems = manifest_of(folder, lines, header)
    return {one.check for one in manifest_faults(manifest, problems)}


def test_B12_splits_and_patients(tmp_path):
    header = "case,patient,image,split"
    whole = ["a,1,a.nii,train", "b,2,a.nii,val", "c,3,a.nii,test"]
    assert manifest_checks(tmp_path, whole, header) == set()
    assert manifest_checks(tmp_path, whole[:2], header) == {"split-without-test"}
    assert manifest_checks(tmp_path, whole[1:], header) == {"split-lacks-part"}
    assert manifest_checks(tmp_path, [*whole, "d,1,a.nii,val"], header) == {"patient-in-two-splits"}
    assert manifest_checks(tmp_path, ["a,a.nii"], "case,image") == {"patient-column-missing"}


@pytest.mark.parametrize(
    ("ids", "told"),
    [("P1 p1", True), ("007 7", True), ("pat-01 pat-1", True), ("10 1", False), ("p1 p2", False), ("100 10", False)],
)
def test_B12_patients_that_are_written_two_ways(tmp_path, ids, told):
    lines = [
        f"{case},{patient},a.nii,{split}"
        for case, patient, split in zip("ab", ids.split(), ("train", "val"), strict=True)
    ]
    found = manifest_checks(tmp_path, [*lines, "c,zz,a.nii,test"], "case,patient,image,split")
    assert found == ({"patient-written-two-ways", "patient-in-two-splits"} if told else set())
    one_split = [line.replace(",val", ",train") for line in lines] + ["d,yy,a.nii,val"]
    found = manifest_checks(tmp_path, [*one_split, "c,zz,a.nii,test"], "case,patient,image,split")
    assert found == ({"patient-written-two-ways"} if told else set())


def test_G3_a_patient_in_two_splits_is_told_without_its_id(tmp_path):
    manifest, problems = manifest_of(
        tmp_path, ["a,Jane Doe,a.nii,train", "b,Jane Doe,a.nii,val"], "case,patient,image,split"
    )
    assert "Jane" not in "".join(one.message for one in manifest_faults(manifest, problems))


@pytest.mark.parametrize("content", ["", "case,image\n", "case;im\x00age\n1;2\n"])
def test_A14_a_manifest_that_is_none(tmp_path, content):
    (tmp_path / "m.csv").write_text(content)
    manifest, problems = inspect_manifest(tmp_path / "m.csv")
    found = manifest_faults(manifest, problems)
    assert [one for one in found if one.severity == "error"]
    assert not [one for one in found if str(tmp_path) in one.message]


def scan(index=0, shape=(64, 64, 32), spacing=(1.0, 1.0, 2.0), *, affine=None, dtype="int16", center=None, **facts):
    matrix = np.diag([*spacing, 1.0]) if affine is None else affine
    grid = Grid(shape, tuple(tuple(float(x) for x in row) for row in matrix), dtype)
    case = Case(f"c{index:02d}", f"p{index}", {"image": f"c{index}.nii"}, {}, {}, None, None, None, center, index + 2)
    return Scan(index, case, "image", ScanFacts(grid=grid, **facts))


def header_checks(*scans, labels=NOTHING):
    return {one.check for one in header_faults(scans, labels)}


def test_grids_without_fault():
    assert header_checks(*(scan(i) for i in range(12))) == set()
    template = {"shape": (193, 229, 193), "spacing": (1.0, 1.0, 1.0)}
    assert header_checks(*(scan(i, **template) for i in range(12))) == set()


@pytest.mark.parametrize(
    ("odd", "check"),
    [
        ({"spacing": (1.0, 1.0, 6.0)}, "spacing-outlier"),
        ({"shape": (64, 64, 80)}, "size-outlier"),
        ({"shape": (512, 512, 40), "spacing": (1.0, 1.0, 1.0)}, "geometry-lost"),
        ({"shape": (64, 64, 3), "spacing": (1.0, 1.0, 16.0)}, "few-slices"),
        ({"shape": (64, 64, 32), "spacing": (0.01, 0.01, 0.01)}, "size-implausible"),
        ({"shape": (64, 64, 32), "spacing": (80.0, 80.0, 80.0)}, "size-implausible"),
        ({"dtype": "float32"}, "storage-differs"),
        ({"affine": np.diag([-1.0, -1, 2, 1])}, "orientation-differs"),
        ({"center": (-10.0, -10.0, 10.0)}, "center-outside"),
        ({"warnings": ("the header's unit is metres",)}, "scan-ambiguous"),
        ({"error": "truncated"}, "scan-unreadable"),
        ({"error": "all voxels are 3: an empty scan; check the export"}, "scan-constant"),
        ({"error": "voxel (1, 1, 1) is nan, expected finite numbers only; find out"}, "scan-not-finite"),
    ],
)
def test_B8_one_odd_header_among_twelve(odd, check):
    assert check in header_checks(*(scan(i) for i in range(12)), scan(12, **odd))
    if check not in ("spacing-outlier", "size-outlier", "storage-differs", "orientation-differs"):
        assert check in header_checks(scan(12, **odd)), "it needs no others to be told"


def test_a_spread_that_is_usual_is_no_outlier():
    thickness = np.tile([0.6, 1.0, 1.5, 2.0, 3.0, 5.0], 3)
    assert header_checks(*(scan(i, (64, 64, int(60 / z)), (1, 1, z)) for i, z in enumerate(thickness))) == set()


def test_points_in_lps_are_recognised():
    (finding,) = header_faults([scan(center=(-10.0, -10.0, 10.0))], NOTHING)
    assert "LPS" in finding.message


@pytest.mark.parametrize(("axis", "check"), [("shape", "label-by-size"), ("spacing", "label-by-spacing")])
def test_size_or_spacing_that_tells_the_label(axis, check):
    rng = np.random.default_rng(0)
    outcome = np.arange(60) % 2
    scans = []
    for index, positive in enumerate(outcome):
        jitter = int(rng.integers(0, 12)) + 12 * int(positive)
        if axis == "shape":
            scans.append(scan(index, (64, 64, 30 + jitter)))
        else:
            # The same extent in thinner slices.
            scans.append(scan(index, (64, 64, 30 + jitter), (1.0, 1.0, 90 / (30 + jitter))))
    labels = Labels(BINARY, outcome.reshape(-1, 1).astype(float))
    assert header_checks(*scans, labels=labels) == {check}
    shuffled = Labels(BINARY, rng.permutation(outcome).reshape(-1, 1).astype(float))
    assert header_checks(*scans, labels=shuffled) == set()


def hounsfield(*peaks: tuple[float, float], minimum=None, lowest_share=0.0, distinct=2000, index=0, modality=None):
    """A scan whose HU histogram has these (value, share) peaks."""
    counts = np.zeros(HISTOGRAM_BINS)
    values = np.repeat([value for value, _ in peaks], [round(1000 * share) for _, share in peaks])
    for value, share in peaks:
        counts[int((value - HISTOGRAM_LOW) // HISTOGRAM_STEP)] += round(1000 * share)
    low = float(values.min()) if minimum is None else minimum
    quantiles = np.percentile(values, [0.5, 5, 25, 50, 75, 95, 99.5])
    seen = IntensityProfile(low, *map(float, quantiles), float(values.max()), distinct)
    counted = tuple(int(count) for count in counts)
    voxels = VoxelFacts(seen, counted, True, lowest_share, 0, 0, 40, (str(index),), "")
    return scan(index, voxels=voxels, modality=modality)


@pytest.mark.parametrize(
    ("peaks", "options", "expected"),
    [
        ([(-1000, 0.4), (-100, 0.2), (45, 0.4)], {}, set()),
        ([(45, 0.6), (110, 0.4)], {"modality": "CT"}, set()),
        ([(-850, 0.85), (45, 0.15)], {}, set()),
        ([(10, 0.4), (924, 0.2), (1069, 0.4)], {}, {"hu-offset"}),
        ([(-2024, 0.4), (-1124, 0.2), (-979, 0.4)], {}, {"hu-rescaled-twice"}),
        ([(0, 0.5), (128, 0.3), (255, 0.2)], {"distinct": 256}, {"hu-windowed"}),
        ([(-1000, 0.995), (45, 0.005)], {}, {"hu-implausible"}),
        ([(-2000, 0.1), (-1000, 0.4), (45, 0.5)], {"lowest_share": 0.1}, {"hu-padding"}),
        ([(300, 0.2), (500, 0.3), (700, 0.2), (1000, 0.3)], {"modality": "CT"}, {"hu-implausible"}),
        ([(0, 0.4), (300, 0.4), (500, 0.2)], {}, {"modality-differs"}),
        ([(0, 0.4), (300, 0.4), (500, 0.2)], {"modality": "MR"}, {"modality-differs"}),
    ],
)
def test_B10_hounsfield_units(peaks, options, expected):
    assert {one.check for one in voxel_faults([hounsfield(*peaks, **options)], "CT", NOTHING)} == expected


def test_B10_what_the_others_are_decides_where_no_task_says_it():
    usual = [(-1000, 0.4), (-100, 0.2), (45, 0.4)]
    raw = [(10, 0.4), (924, 0.2), (1069, 0.4)]
    scans = [hounsfield(*usual, index=index) for index in range(9)]
    found = voxel_faults([*scans, hounsfield(*raw, index=9)], None, NOTHING)
    assert [(one.check, one.cases) for one in found] == [("hu-offset", ("c09",))]
    assert voxel_faults([hounsfield(*raw)], None, NOTHING) == [], "alone it could be an MR scan"


def test_every_check_is_told_in_words_and_all_are_used():
    files = [path for path in Path(checks.__file__).parent.glob("*.py") if path.name != "checks.py"]
    source = "".join(path.read_text() for path in files)
    for name, check in CHECKS.items():
        assert f'"{name}"' in source, f"{name} is never found"
        assert check.severity in SEVERITIES
        assert check.what and check.do and not check.do.endswith(".")


def test_findings_are_told_worst_first_and_once():
    some = [
        Finding("storage-differs", "n", ("a",), (2,)),
        Finding("view-missing", "w", ("a",), (2,)),
        Finding("scan-unreadable", "e", ("b",), (3,)),
        Finding("scan-unreadable", "e", ("a",), (2,)),
    ]
    assert in_order(some) == in_order([*reversed(some), *some])
    assert [one.severity for one in in_order(some)] == ["error", "error", "warning", "note"]
    assert grouped(in_order(some))[0] == Finding("scan-unreadable", "e", ("a", "b"), (2, 3))


def test_many_findings_of_one_kind_become_one_for_readers():
    many = [Finding("scan-unreadable", f"reason {i}", (f"c{i}",), (i + 2,)) for i in range(checks.MOST_ALIKE + 1)]
    assert condensed(many[:-1]) == in_order(many[:-1])
    (one,) = condensed(many)
    assert len(one.cases) == len(many) and "reason 0" in one.message


def test_scans_come_in_the_order_of_the_manifest():
    cases = [scan(i).case for i in range(3)]
    facts = {(2, "image"): ScanFacts(), (0, "image"): ScanFacts(), (1, "image.b"): ScanFacts()}
    assert [one.index for one in of_column(cases, facts, "image")] == [0, 2]


def test_every_check_is_described_on_its_page():
    page = (Path(__file__).resolve().parents[2] / "docs" / "doctor.md").read_text(encoding="utf-8")
    for name, check in CHECKS.items():
        assert f"| `{name}` | {check.what} | {check.do} | {check.promises} |" in page
