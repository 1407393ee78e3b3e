"""Real scans: a clean set gives no error, and what was spoiled on purpose is found."""

from __future__ import annotations

import csv
from pathlib import Path

import nibabel
import numpy as np
import pytest
from data_set_makers import body, save
from scipy.ndimage import zoom

from anymc3d.doctor.duplicates import ALMOST
from anymc3d.doctor.examine import examine
from anymc3d.doctor.facts import Job
from anymc3d.doctor.measure import measure
from anymc3d.doctor.report import make_report

pytestmark = pytest.mark.real_data
NUM_SCANS = 24


def table(path: Path, rows: list[dict[str, object]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture(scope="module")
def hippocampi(shared) -> list[dict[str, object]]:
    folder = shared / "data" / "hippocampus_mr"
    names = sorted(path.name for path in (folder / "images").glob("*.nii.gz"))[:NUM_SCANS]
    return [
        {
            "case": name[:-7],
            "patient": name[:-7],
            "image": folder / "images" / name,
            "mask": folder / "labels" / name,
            "side": index % 2,
        }
        for index, name in enumerate(names)
    ]


def test_real_scans_have_no_error_and_no_warning(hippocampi, tmp_path):
    report = make_report(examine(table(tmp_path / "m.csv", hippocampi), labels=("side",)))
    assert [one for one in report.findings if one.severity != "note"] == []
    assert report.exit_code == 0


def test_B13_a_scan_is_known_again_in_any_storage(hippocampi, tmp_path):
    rows = [dict(row, split=("train", "val", "test")[index % 3]) for index, row in enumerate(hippocampi)]
    image = nibabel.load(rows[0]["image"])
    voxels = np.asarray(image.dataobj)
    turned = nibabel.orientations.apply_orientation(voxels, [[0, -1], [1, -1], [2, 1]])
    affine = image.affine @ nibabel.orientations.inv_ornt_aff([[0, -1], [1, -1], [2, 1]], voxels.shape)
    copies = {
        "float": (voxels.astype(np.float64), image.affine),
        "turned": (turned, affine),
        "no_header": (voxels, np.diag([-2.0, -2.0, 2.0, 1.0])),
    }
    for name, (content, place) in copies.items():
        path = save(tmp_path / f"{name}.nii.gz", content, place)
        rows.append(dict(rows[0], case=name, patient=name, image=path, mask="", split="test"))
    coarse = zoom(np.asarray(nibabel.load(rows[1]["image"]).dataobj, dtype=np.float32), 0.8, order=1)
    path = save(tmp_path / "coarse.nii", coarse, np.diag([1.25, 1.25, 1.25, 1.0]))
    rows.append(dict(rows[1], case="coarse", patient="coarse", image=path, mask="", split="train"))
    found = examine(table(tmp_path / "m.csv", rows), labels=("side",)).findings
    told = {one.check: set(one.cases) for one in found if one.severity != "note"}
    assert told == {
        "same-scan-in-two-splits": {rows[0]["case"], *copies},
        "near-duplicate": {rows[1]["case"], "coarse"},
        "flip-suspected": {"no_header"},
        "size-outlier": {"no_header"},
    }


def test_signatures_of_two_real_people_are_far_below_the_limit(hippocampi, shared):
    brains = sorted((shared / "data" / "ixi_t1" / "nifti").glob("*.nii.gz"))[:6]
    for paths in ([row["image"] for row in hippocampi], brains):
        vectors = np.stack([measure(Job(str(path))).voxels.vector() for path in paths])
        pairs = (vectors @ vectors.T)[np.triu_indices(len(vectors), 1)]
        assert pairs.max() < ALMOST - 0.01


@pytest.mark.parametrize(
    ("name", "change", "check"),
    [
        ("as it is", lambda hu: hu, None),
        ("no rescale", lambda hu: (hu + 1024).clip(0), "hu-offset"),
        ("rescaled twice", lambda hu: hu - 1024, "hu-rescaled-twice"),
        ("windowed", lambda hu: np.interp(hu, (-160, 240), (0, 255)).astype(np.uint8), "hu-windowed"),
    ],
)
def test_B10_a_real_ct_among_made_up_ones(shared, tmp_path, name, change, check):
    hu = np.asarray(nibabel.load(shared / "data" / "ct_totalsegmentator" / "example_ct.nii.gz").dataobj)
    save(tmp_path / "real.nii", change(hu.astype(np.int16)), np.diag([3.0, 3, 3, 1]))
    rows = [{"case": "real", "patient": "real", "image": "real.nii"}]
    for index in range(3):
        save(tmp_path / f"{index}.nii", body(index))
        rows.append({"case": f"c{index}", "patient": f"p{index}", "image": f"{index}.nii"})
    found = [one for one in examine(table(tmp_path / "m.csv", rows)).findings if one.severity != "note"]
    assert [(one.check, one.cases) for one in found] == ([(check, ("real",))] if check else [])
