"""No identifier out of a tag, a header, a folder or a file name is in anything that is written or printed.

Every scan here carries the marker wherever a format has room for text. The whole journey runs in processes of its own
with --debug, good scans and bad ones, and then every byte that it wrote, unpacked where it is packed, is searched.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items

import dicom_makers as dicom

MARKER = "QZXMARKER"
FOLDER = f"{MARKER}_ward"
TEXT_TAGS = (
    *("PatientName", "PatientID", "OtherPatientIDs", "PatientAddress", "PatientComments", "EthnicGroup"),
    *("AccessionNumber", "InstitutionName", "InstitutionAddress", "ReferringPhysicianName", "OperatorsName"),
    *("StudyID", "StudyDescription", "SeriesDescription", "ProtocolName", "StationName", "DeviceSerialNumber"),
    *("ImageComments", "RequestedProcedureDescription", "BodyPartExamined", "Manufacturer", "ManufacturerModelName"),
    *("ConvolutionKernel", "ContrastBolusAgent", "SequenceName", "StackID", "RescaleType", "SoftwareVersions"),
)
UID_DIGITS = "77123498761"
"""Stands for the marker in UIDs, which hold digits only."""
DATES = "18880229"
WORDS = (MARKER, UID_DIGITS, DATES)
TASK = """\
format: 1
name: block
labels: {columns: [block], kind: binary, classes: ['0', '1']}
data: {manifest: good.csv, modality: MR}
views:
  image: {size: [28, 28, 4], plane: axial, normalise: percentile}
backbone: tiny-random
train: {epochs: 1, precision: fp32, lora_lr: 0.001, head_lr: 0.01}
"""


def mark(dataset: Dataset) -> None:
    """Text in every tag that takes any, private ones and nested ones too."""
    for keyword in TEXT_TAGS:
        setattr(dataset, keyword, MARKER)
    for keyword in ("PatientBirthDate", "StudyDate", "SeriesDate", "AcquisitionDate"):
        setattr(dataset, keyword, DATES)
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        setattr(dataset, keyword, f"1.2.826.{UID_DIGITS}.{len(keyword)}")
    dataset.SOPInstanceUID = f"1.2.826.{UID_DIGITS}.{dataset.InstanceNumber}"
    nested = Dataset()
    nested.PatientID = MARKER
    dataset.RequestAttributesSequence = Items([nested])
    dataset.private_block(0x0099, MARKER, create=True).add_new(1, "LO", MARKER)


def dicom_folder(folder: Path, index: int, change=lambda series: None) -> str:
    stored = dicom.anatomy(seed=index)
    if index % 2:
        stored[2:6, 3:8, 4:10] = 4000
    series = dicom.make_series(stored=stored)
    dicom.each(mark)(series)
    change(series)
    series.names = [f"{MARKER}_{number:03d}.dcm" for number in range(len(series.slices))]
    series.write(folder)
    return str(folder)


def nifti_file(path: Path, index: int, content=lambda raw: raw) -> str:
    image = nib.Nifti1Image(voxels_of(index), np.diag([1.0, 1.0, 3.0, 1.0]))
    image.header["descrip"] = f"{MARKER} {DATES}".encode()
    image.header["aux_file"] = image.header["intent_name"] = MARKER.encode()
    image.header["db_name"] = MARKER.encode()
    for code in (2, 4, 6):
        payload = Dataset() if code == 2 else f"{MARKER} {DATES}".encode()
        if code == 2:
            payload.PatientName = MARKER
        image.header.extensions.append(nib.nifti1.Nifti1Extension(code, payload) if code != 2 else _dicom_extension())
    path.write_bytes(content(gzip.compress(image.to_bytes())))
    return str(path)


def _dicom_extension():
    dataset = Dataset()
    dataset.PatientName, dataset.PatientID = MARKER, MARKER
    return nib.nifti1.Nifti1DicomExtension(2, dataset)


def voxels_of(index: int) -> np.ndarray:
    voxels = np.random.default_rng(index).normal(300, 30, (16, 16, 8)).astype(np.float32)
    if index % 2:
        voxels[4:12, 4:12, 2:6] += 400
    return voxels


def mha_file(path: Path, index: int, local: str = "LOCAL") -> str:
    header = (
        f"ObjectType = Image\nNDims = 3\nComment = {MARKER}\nAcquisitionDate = {DATES}\nName = {MARKER}\n"
        "BinaryData = True\nBinaryDataByteOrderMSB = False\nTransformMatrix = 1 0 0 0 1 0 0 0 1\nOffset = 0 0 0\n"
        f"ElementSpacing = 1 1 3\nDimSize = 16 16 8\nElementType = MET_FLOAT\nElementDataFile = {local}\n"
    )
    path.write_bytes(header.encode() + voxels_of(index).tobytes(order="F"))
    return str(path)


def nrrd_file(path: Path, index: int, extra: str = "") -> str:
    header = (
        f"NRRD0005\n# {MARKER}\ncontent: {MARKER}\ntype: float\ndimension: 3\nspace: left-posterior-superior\n"
        "sizes: 16 16 8\nspace directions: (1,0,0) (0,1,0) (0,0,3)\nspace origin: (0,0,0)\nendian: little\n"
        f"encoding: raw\nDICOM_0010_0010:={MARKER}\n{extra}\n"
    )
    path.write_bytes(header.encode() + voxels_of(index).tobytes(order="F"))
    return str(path)


def npy_file(path: Path, index: int) -> str:
    np.save(path, voxels_of(index))
    return str(path)


def bad_scans(folder: Path) -> dict[str, str]:
    """Case -> scan that cannot be read, each for another reason and with the marker where the fault is."""
    folder.mkdir()

    def slices(name, change):
        return dicom_folder(folder / f"{MARKER}_{name}", 1, change)

    named = folder / MARKER
    (folder / f"{MARKER}.npy").write_bytes(b"\x93NUMPY\x01\x00v\x00{'" + MARKER.encode() + b"': 1" + b" " * 99)
    structured = np.zeros((4, 4, 4), dtype=[(MARKER, "f4")])
    np.save(folder / f"{MARKER}_fields.npy", structured)
    (folder / f"{MARKER}.npz").write_bytes(b"PK\x03\x04" + MARKER.encode())
    (folder / f"{MARKER}.xyz").write_bytes(MARKER.encode())
    (folder / f"{MARKER}_loop.nii").symlink_to(folder / f"{MARKER}_loop.nii")

    def foreign(series):
        series.extra[f"{MARKER}_x.dcm"] = MARKER.encode() * 40

    return {
        "truncated": nifti_file(Path(f"{named}_t.nii.gz"), 1, lambda raw: raw[: len(raw) // 2]),
        "magic": nifti_file(Path(f"{named}_m.nii.gz"), 1, lambda raw: MARKER.encode() + raw),
        "missing": f"{named}_missing.nii.gz",
        "loop": f"{named}_loop.nii",
        "format": f"{named}.xyz",
        "npy_header": f"{named}.npy",
        "npy_fields": f"{named}_fields.npy",
        "npz": f"{named}.npz#test/0",
        "odd_path": f"{folder}/.//{MARKER}_missing.npz#test/0",
        "long": f"{named}{'x' * 300}.nii",
        "detached": mha_file(Path(f"{named}.mha"), 1, f"{MARKER}.raw"),
        "mha_type": mha_file(Path(f"{named}_type.mha"), 1, f"LOCAL\nElementType = {MARKER}"),
        "nrrd_detached": nrrd_file(Path(f"{named}.nrrd"), 1, f"data file: {MARKER}.raw\n"),
        "nrrd_number": nrrd_file(Path(f"{named}_s.nrrd"), 1, f"spacings: {MARKER} 1 1\n"),
        "gap": slices("gap", lambda series: series.slices.pop(3)),
        "patients": slices("two", dicom.at(2, dicom.setting(PatientID=f"{MARKER}2"))),
        "no_spacing": slices("spacing", dicom.each(dicom.setting(PixelSpacing=None))),
        "text_position": slices("text", dicom.at(2, dicom.raw("ImagePositionPatient", "DS", MARKER.encode() + b" "))),
        "text_number": slices("number", dicom.at(2, dicom.raw("RescaleSlope", "DS", MARKER.encode() + b" "))),
        "foreign": slices("foreign", foreign),
        "two_series": slices("series", dicom.at(2, dicom.setting(SeriesInstanceUID=f"1.2.{UID_DIGITS}.9"))),
    }


def good_scans(folder: Path) -> dict[str, str]:
    folder.mkdir()
    scans = {}
    for index in range(12):
        scans[f"c{index:02d}"] = nifti_file(folder / f"{MARKER}_{index}.nii.gz", index)
    makers = (dicom_folder, mha_file, nrrd_file, npy_file)
    for index, (make, ending) in enumerate(zip(makers, ("", ".mha", ".nrrd", ".npy"), strict=True), start=12):
        scans[f"c{index:02d}"] = make(folder / f"{MARKER}_{index}{ending}", index)
    return scans


def write_manifest(path: Path, scans: dict[str, str]) -> Path:
    rows = ["case,image,spacing,block,split"]
    for index, (case, scan) in enumerate(scans.items()):
        split = ("train", "train", "val", "test")[index // 2 % 4]
        rows.append(f"{case},{scan},{'1 1 3' if scan.endswith('.npy') else ''},{index % 2},{split}")
    path.write_text("\n".join(rows) + "\n")
    return path


NOT_THERE = ("missing", "odd_path", "long")
"""A fault of the manifest itself, such as a file that is not there, quotes the manifest's cell."""
DRIVER = """
import json, os, sys
from anymc3d.cli.main import main
from anymc3d.data.prefetch import queue
few = queue.FEW_CASES
for number, words in enumerate(json.loads(sys.argv[1])):
    queue.FEW_CASES = few if number in json.loads(sys.argv[3]) else 10**9
    printed = os.open(f"{sys.argv[2]}/{number}", os.O_WRONLY | os.O_CREAT, 0o600)
    os.dup2(printed, 1), os.dup2(printed, 2)
    code = main([*words, "--debug"])
    sys.stdout.flush(), sys.stderr.flush()
    os.write(printed, f"\\nexit code {code}\\n".encode())
"""


@dataclass(frozen=True)
class Workplace:
    """Marked scans in ``data``; everything that commands write goes to ``written`` (home and temp folder included)."""

    data: Path
    written: Path

    def commands(self, *lines: tuple[object, ...], helped: Sequence[int] = ()) -> list[str]:
        """Run commands with --debug one after the other in a process of their own; what each printed, and its code.

        ``helped``: the numbers of those for which other processes read, as they do for so many scans.
        """
        for name in ("home", "temp"):
            (self.written / name).mkdir(parents=True, exist_ok=True)
        own = {"ANYMC3D_HOME": str(self.written / "home"), "TMPDIR": str(self.written / "temp"), "OMP_NUM_THREADS": "1"}
        with tempfile.TemporaryDirectory() as printed:
            words = json.dumps([[str(word) for word in line] for line in lines])
            done = subprocess.run(
                [sys.executable, "-c", DRIVER, words, printed, json.dumps(helped)],
                capture_output=True,
                cwd=self.written,
                env={**os.environ, **own, "HF_HUB_OFFLINE": "1"},
                timeout=280,
            )
            assert done.returncode == 0, done.stderr.decode()
            return [(Path(printed) / str(n)).read_text(errors="replace") for n in range(len(lines))]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    data, written = tmp_path_factory.mktemp("scans"), tmp_path_factory.mktemp("written")
    marked = data / FOLDER
    marked.mkdir()
    write_manifest(data / "good.csv", good_scans(marked / "good"))
    bad = bad_scans(marked / "bad")
    write_manifest(data / "bad.csv", bad)
    write_manifest(data / "there.csv", {case: scan for case, scan in bad.items() if case not in NOT_THERE})
    (data / "task.yaml").write_text(TASK)
    return Workplace(data, written)


@pytest.fixture(scope="module")
def printed(place):
    """The whole journey; what each command printed, by its name."""
    w, d = place.written, place.data
    plugin = w / "run" / "plugin.safetensors"
    key = ("--pseudonymize", d / "key")
    one = d / FOLDER / "good"
    steps = {
        "plan": (0, "plan", d / "good.csv", "--labels", "block", "--no-timing", "-o", w / "planned.yaml"),
        "plan bad": (2, "plan", d / "there.csv", "--labels", "block", "--no-timing", "-o", w / "planned_bad.yaml"),
        "train": (0, "train", d / "task.yaml", "-o", w / "run", *key),
        "train bad": (2, "train", d / "task.yaml", f"data.manifest={d / 'there.csv'}", "-o", w / "bad_run", *key),
        "predict": (3, "predict", "-p", plugin, "-i", d / "all.csv", "-o", w / "answers", "--json"),
        "predict keyed": (0, "predict", "-p", plugin, "-i", d / "good.csv", "-o", w / "keyed", *key),
        "predict files": (
            *(3, "predict", "-p", plugin, "-i", one / f"{MARKER}_0.nii.gz", one / f"{MARKER}_12", d / FOLDER / "none"),
            *("-o", w / "files", *key),
        ),
        "evaluate": (0, "evaluate", w / "answers" / "predictions.csv", d / "good.csv", "-o", w / "figures"),
        "evaluate keyed": (0, "evaluate", w / "keyed" / "predictions.csv", d / "good.csv", "-o", w / "keyed_f", *key),
        "no split": (0, "evaluate", w / "keyed" / "predictions.csv", w / "run" / "manifest.csv", "-o", w / "unkeyed_f"),
    }
    good, bad = ((d / name).read_text() for name in ("good.csv", "bad.csv"))
    (d / "all.csv").write_text(good + bad.partition("\n")[2])
    helped = [list(steps).index(name) for name in ("train bad", "predict")]
    texts = place.commands(*(words for _, *words in steps.values()), helped=helped)
    for text, (name, (code, *_)) in zip(texts, steps.items(), strict=True):
        assert text.endswith(f"\nexit code {code}\n"), f"{name}: {text}"
    return dict(zip(steps, texts, strict=True))


def unpacked(path: Path) -> bytes:
    """A file's bytes, and what is inside where it is an archive or a stream."""
    content = path.read_bytes()
    more = [content]
    if content[:2] == b"\x1f\x8b":
        more.append(gzip.decompress(content))
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            more += [archive.read(name) for name in archive.namelist()]
    if content[:8] == b"\x89PNG\r\n\x1a\n":
        more += [zlib.decompress(part) for part in png_streams(content)]
    return b"".join(more)


def png_streams(content: bytes) -> list[bytes]:
    place, data = 8, b""
    while place < len(content):
        length, kind = int.from_bytes(content[place : place + 4], "big"), content[place + 4 : place + 8]
        if kind == b"IDAT":
            data += content[place + 8 : place + 8 + length]
        place += length + 12
    return [data] if data else []


def finds(text: bytes) -> list[str]:
    folded = text.lower()
    spellings = {word: [word.lower().encode(), word.lower().encode("utf-16-le")] for word in WORDS}
    return [word for word, ways in spellings.items() if any(way in folded for way in ways)]


def test_the_search_finds_what_is_there(place, tmp_path):
    """A search that cannot find proves nothing: the scans themselves are full of markers."""
    for path in (place.data / FOLDER / "good").rglob("*"):
        if path.is_file() and path.suffix != ".npy":
            assert MARKER in finds(unpacked(path)), path.name
    np.savez_compressed(tmp_path / "a.npz", text=np.frombuffer(MARKER.encode(), np.uint8))
    assert finds(unpacked(tmp_path / "a.npz")) == [MARKER]


def test_G1_G2_nothing_printed_holds_an_identifier(printed):
    assert {name: finds(text.encode()) for name, text in printed.items() if finds(text.encode())} == {}


def test_G1_G2_no_byte_of_any_file_written_holds_an_identifier(place, printed):
    """Outputs, run folder, plugin, checkpoints, logs, caches, pictures, temporary files; and no file's name."""
    files = [path for path in place.written.rglob("*") if path.is_file()]
    assert {"plugin.safetensors", "predictions.csv", "journal.jsonl", "metrics.csv", "roc.png"} <= {
        p.name for p in files
    }
    assert any("home" in path.parts for path in files)
    leaks = {str(path.relative_to(place.written)): finds(unpacked(path)) for path in files}
    assert {name: words for name, words in leaks.items() if words} == {}
    assert finds("\n".join(leaks).encode()) == []


def test_G8_no_temporary_file_is_left(place, printed):
    assert [path for path in (place.written / "temp").rglob("*") if path.is_file()] == []
    assert [p for p in place.written.rglob("*") if p.name.endswith(".part")] == []


def test_every_bad_scan_has_a_reason_and_its_case_id(printed, place):
    """In predict each has its row; plan names those whose header tells, train those whose voxels do (by pseudonym)."""
    only_by_voxels = ("truncated",)
    for case in [line.partition(",")[0] for line in (place.data / "bad.csv").read_text().splitlines()[1:]]:
        assert case in (*NOT_THERE, *only_by_voxels) or f"case {case!r}: image: " in printed["plan bad"], case
        assert f'"case": "{case}"' in printed["predict"], case


def test_G3_with_a_key_no_case_id_is_in_any_file_of_a_run(place, printed):
    from anymc3d.data.pseudonyms import load_pseudonyms
    from anymc3d.files.tables import read_table

    names = load_pseudonyms(place.data / "key")
    ids = [line.partition(",")[0] for line in (place.data / "good.csv").read_text().splitlines()[1:]]
    for folder in ("run", "keyed", "keyed_f", "unkeyed_f"):
        for path in (place.written / folder).rglob("*"):
            if path.is_file():
                content = unpacked(path)
                assert not [name for name in ids if f'"{name}"'.encode() in content or f"\n{name},".encode() in content]
                assert str(place.data).encode() not in content
    rows = read_table(place.written / "keyed" / "predictions.csv")
    assert [row["case"] for row in rows] == [names.case(name) for name in ids]
    plain = {row["case"]: row for row in read_table(place.written / "answers" / "predictions.csv")}
    for name, row in zip(ids, rows, strict=True):
        assert row == {**plain[name], "case": names.case(name)}


def test_figures_under_pseudonyms_are_the_same(place, printed):
    """By the key and the user's manifest, and without the key by the manifest of the run folder."""
    tables = [(place.written / name / "metrics.csv").read_bytes() for name in ("figures", "keyed_f", "unkeyed_f")]
    assert tables[0] == tables[1] == tables[2]


def test_a_keyed_run_is_resumed_by_the_same_key_alone(place, printed, tmp_path):
    plugin, out = place.written / "run" / "plugin.safetensors", tmp_path / "out"
    shutil.copytree(place.written / "keyed", out)
    words = ("predict", "-p", plugin, "-i", place.data / "good.csv", "-o", out)
    again, other, unkeyed = place.commands(
        (*words, "--pseudonymize", place.data / "key", "--pseudonym-map", tmp_path / "map.csv"),
        (*words, "--pseudonymize", tmp_path / "other_key"),
        words,
    )
    assert "16 cases were already done" in again
    assert again.endswith("code 0\n")
    assert (tmp_path / "map.csv").read_text().startswith("case,pseudonym\nc00,p")
    for text in (other, unkeyed):
        assert "pseudonym_key" in text
        assert text.endswith("code 2\n")
