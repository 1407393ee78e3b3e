"""Public bug reports of other programs, rebuilt as small inputs in ``../shared/cases``: each ends as it should.

The table in docs/reliability.md says for each case where its kind is tested with inputs that the test makes itself, and
with variants; here the reported inputs themselves are read, planned, split, adapted and evaluated.
"""

from __future__ import annotations

import re
import runpy
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from anymc3d.cli.main import main
from anymc3d.data.manifest import read_manifest
from anymc3d.data.readers import read_volume
from anymc3d.errors import AnyMC3DError

pytestmark = pytest.mark.real_data


@pytest.fixture
def made(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Runs the script of a case; returns the folder that it filled."""
    if not (shared / "cases").is_dir():
        pytest.skip("needs the rebuilt bug reports in ../shared/cases, which are not part of the repository")

    def make(case: str, *arguments: str) -> Path:
        (script,) = (shared / "cases").glob(f"{case}_*.py")
        monkeypatch.setattr(sys, "argv", [str(script), str(tmp_path / case), *arguments])
        runpy.run_path(str(script))
        return tmp_path / case

    return make


READ = {
    "r02": ("nan.nii", None, "", (24, 24, 10)),
    "r02 mask": ("mask_nan.nii", None, "", (24, 24, 10)),
    "r03": ("zero_sform.nii", None, "the sform is all zero: the qform is used", (20, 24, 12)),
    "r04": ("dwi", "DiffusionBValue=0", "8 of the 16 slices", (24, 20, 8)),
    "r05": ("fieldmap", "EchoTime=4.6; ImageType=M", "6 of the 24 slices", (24, 20, 6)),
    "r06": ("spine", "stack=1", "4 of the 12 slices", (24, 20, 4)),
    "r07": ("ct", "uids=ignore", "", (24, 20, 10)),
    "r08": ("ct", "uids=ignore", "", (24, 20, 10)),
    "r10": ("ct", None, "Secondary Capture", (24, 20, 10)),
    "r11": ("ct", None, "1 of 11 files", (24, 20, 10)),
    "r12": ("ct", "gaps=allow", "from 2.5 to 5 mm at 15 mm", (24, 20, 13)),
    "r27 pair": ("oasis.hdr", None, "", (24, 20, 12)),
    "r27 detached": ("luna.mhd", None, "", (24, 20, 12)),
    "r27 freesurfer": ("norm.mgz", None, "", (24, 20, 12)),
    "r27 no ending": ("no_ending", None, "", (24, 20, 12)),
    "r31": ("ct", None, "10 slices are repeated with the same pixels", (24, 20, 10)),
    "r32": ("ct", "units=raw", "", (24, 20, 10)),
    "r35": ("ct", "AcquisitionNumber=1", "5 of the 10 slices", (24, 20, 5)),
    "r37": ("enhanced", None, "", (24, 20, 9)),
}
"""Case: what to read, by which rule, a part of the warning, and the shape."""


@pytest.mark.parametrize("case", READ)
def test_the_scan_is_read_and_what_is_odd_is_said(made: Callable[..., Path], case: str) -> None:
    name, rule, words, shape = READ[case]
    volume = read_volume(made(case.split()[0]) / name, series=rule)
    assert volume.shape == shape and words in "; ".join(volume.warnings)


REFUSED = {
    "r04": ("dwi", "2 volumes", "at the same 8 places", "'DiffusionBValue=0'"),
    "r05": ("fieldmap", "4 volumes", "EchoTime (4.6, 6.9) and ImageType (M, P)", "'EchoTime=4.6; ImageType=M'"),
    "r06": ("spine", "3 stacks of 4 slices", "10 and 22 degrees", "'stack=1'"),
    "r07": ("ct", "10 series of one slice each", "an anonymiser renamed them", "'uids=ignore'"),
    "r08": ("ct", "10 StudyInstanceUIDs and 10 FrameOfReferenceUIDs", "an anonymiser", "'uids=ignore'"),
    "r09": ("ct", "all 10 slices are at one place (0, 0, 0)", "ask for files with their ImagePositionPatient"),
    "r12": ("ct", "from 2.5 to 5 mm at 15 mm", "no slice is missing", "--allow-gaps", "'SliceThickness=2.5'"),
    "r14": ("ct", "12 bits", "PixelPaddingValue"),
    "r20": ("imagesTs", "3 .nii.gz files", "FOLDER/*.nii.gz"),
    "r26": ("ct.nii.gz", "compressed data are damaged", "get the file again"),
    "r33": ("offset_0_at_348.nii", "from byte 352 on, the header says 0", "save it again"),
    "r35": ("ct", "2 even stacks by AcquisitionNumber, 3 mm each", "'AcquisitionNumber=1'"),
    "r42": ("cbct", "X-Ray 3D Angiographic", "convert it to NIfTI"),
    "r42 spect": ("spect", "Nuclear Medicine (SPECT)", "convert it to NIfTI"),
}
"""Case: what to read, and parts of what is said."""


@pytest.mark.parametrize("case", REFUSED)
def test_the_scan_is_refused_with_its_cause_and_the_way_out(made: Callable[..., Path], case: str) -> None:
    name, *words = REFUSED[case]
    with pytest.raises(AnyMC3DError) as caught:
        read_volume(made(case.split()[0]) / name)
    assert not [part for part in words if part not in str(caught.value)]


def test_slopes_that_are_not_set_and_half_a_geometry_change_no_voxel(made: Callable[..., Path]) -> None:
    for case, odd in (("r02", "nan.nii"), ("r03", "zero_sform.nii")):
        folder = made(case)
        usual, other = read_volume(folder / "usual.nii"), read_volume(folder / odd)
        assert np.array_equal(usual.voxels, other.voxels) and np.allclose(usual.affine, other.affine)


TABLES = {
    "r15": ("plan spleen", 0, "Decision 1 (positive) means spleen = injured"),
    "r16": ("plan finding", 2, "3 cells are '-1' beside 0 and 1"),
    "r17": ("plan y", 0, "Decision 1 (positive) means y = 1"),
    "r18": ("plan y", 0, ""),
    "r19": ("plan y", 0, ""),
    "r21": ("plan label", 2, "(24, 28, 28, 3): colour pictures; 2D sets are not scans"),
    "r23": ("split rare", 0, "2 patients with rare = 1 cannot be in train, val and test: test gets none"),
    "r24": ("plan y", 0, "no case of val has y = 1"),
    "r28": ("plan y", 2, "give each its own id in a 'case' column"),
    "r40": ("plan y", 0, "8 of 21 scans were acquired sagittally, 13 axially"),
    "r43": ("plan y", 2, "a link to a file that is not there: it was not fetched (datalad get"),
    "r44": ("plan y", 2, "'101' and '101.0' look like one patient written 2 ways, in 2 splits"),
}
"""Case: the command, how it ends, and a part of what is said."""


@pytest.mark.parametrize("case", TABLES)
def test_the_table_is_used_or_refused_with_the_reason(
    made: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    command, code, words = TABLES[case]
    folder = made(case)
    (table,) = [*folder.glob("*.csv"), *folder.glob("*.npz")]
    verb, label = command.split()
    start = ["plan"] if verb == "plan" else ["data", "split"]
    assert main([*start, str(table), "--labels", label, "-o", str(tmp_path / "out.x")]) == code
    printed = capsys.readouterr()
    assert words in printed.out + printed.err


def test_two_codes_of_one_letter_are_one_name(made: Callable[..., Path]) -> None:
    folder = made("r19")
    found = [Path(case.images["image"]) for case in read_manifest(folder / "cases.csv").cases]
    assert found and all(path.exists() for path in found)
    written = (folder / "cases.csv").read_text(encoding="utf-8")
    assert written != unicodedata.normalize("NFC", written)


ADAPTED = {
    "r29": ("nnunet", "Task99_Thing", 2, "anymc3d data adapt monai"),
    "r30": ("bids", "bids", 0, "sub-1 is sub-001"),
}


@pytest.mark.parametrize("case", ADAPTED)
def test_the_layout_is_adapted_or_the_right_one_named(
    made: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    layout, name, code, words = ADAPTED[case]
    assert main(["data", "adapt", layout, str(made(case) / name), "-o", str(tmp_path / "out.csv")]) == code
    printed = capsys.readouterr()
    assert words in printed.out + printed.err


SCORES = {
    "r22 comma": (
        2,
        "predictions: 80 problems",
        "logit.y is '-1,39761842', expected a finite number; take the table as it was written",
    ),
    "r22 no_zeros": (2, "differ from the manifest's in zeros, signs or letter case alone"),
    "r22 twice": (2, "case '000': appears twice"),
    "r34 predictions": (0, "AUROC and others are undefined"),
}


@pytest.mark.parametrize("case", SCORES)
def test_the_scores_are_used_or_refused_with_the_reason(
    made: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    code, *words = SCORES[case]
    number, name = case.split()
    folder = made(number)
    command = ["evaluate", str(folder / f"{name}.csv"), str(folder / "cases.csv"), "-o", str(tmp_path / "out")]
    assert main(command) == code
    printed = capsys.readouterr()
    assert not [part for part in words if part not in printed.out + printed.err]


def test_names_with_blanks_signs_and_other_letters_are_read(made: Callable[..., Path]) -> None:
    scans = sorted(made("r41").rglob("*.nii.gz"))
    assert len(scans) == 5 and all(read_volume(scan).shape == (24, 24, 8) for scan in scans)


def test_each_case_has_its_line_in_the_table_of_the_documentation() -> None:
    page = (Path(__file__).resolve().parents[1] / "docs/reliability.md").read_text(encoding="utf-8")
    told = {case for row in re.findall(r"^\| (r\d\d(?:, r\d\d)?) \|", page, re.M) for case in row.split(", ")}
    assert {case.split()[0] for table in (READ, REFUSED, TABLES, ADAPTED, SCORES) for case in table} <= told
    assert len(told) >= 42
