"""RATIC, the abdominal trauma CT set of the RSNA 2023 challenge: one case per series, the patient's labels on each.

Layout (supplement B, tasks T1 to T4): ``train_images/<patient>/<series>/<n>.dcm``, ``train.csv`` or the later
``train_2024.csv`` with one-hot labels per patient, ``train_series_meta.csv``, ``segmentations/<series>.nii``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from anymc3d.adapters.dicom_folders import has_files, modality_of
from anymc3d.adapters.findings import Findings
from anymc3d.adapters.rows import Adapted, AdaptOptions, Row
from anymc3d.adapters.side_tables import keyed, listing, read_rows
from anymc3d.data.readers import read_header
from anymc3d.errors import ScanError

LABEL_TABLES = ("train_2024.csv", "train.csv")
"""The later one wins where both are there."""
SERIES_TABLE = "train_series_meta.csv"
TWO_GRADES = ("bowel", "extravasation")
THREE_GRADES = ("kidney", "liver", "spleen")
ORGANS = (*TWO_GRADES, *THREE_GRADES)
LABELS = (*(f"{organ}_injury" for organ in ORGANS), *(f"{organ}_grade" for organ in THREE_GRADES), "any_injury")
USED_BY_THE_PAPER = 4703
CORNER_TOLERANCE = 1.0
"""In voxels: how far the corners of a segmentation may lie from those of its series."""


def one_hot_columns(organ: str) -> tuple[str, ...]:
    """The columns of an organ in the label table, from healthy to worst."""
    return tuple(f"{organ}_{grade}" for grade in (("healthy", "injury") if organ in TWO_GRADES else GRADES))


GRADES = ("healthy", "low", "high")


def adapt_ratic(folder: Path, options: AdaptOptions) -> Adapted:
    """One row per series of the series table, labels copied from the patient.

    ``<organ>_injury`` is 0 or 1; ``kidney_grade``, ``liver_grade`` and ``spleen_grade`` are 0 healthy, 1 low, 2 high.
    A segmentation is linked as ``mask`` only where it lies on the grid of its series.
    """
    adapted = Adapted(labels=LABELS)
    findings = adapted.findings
    patients = _patient_labels(folder, findings)
    series = keyed(
        read_rows(folder / SERIES_TABLE, findings, needed=("patient_id", "series_id")),
        "series_id",
        SERIES_TABLE,
        findings,
    )
    if findings.has_errors:
        return adapted
    masks = _segmentations(folder, series, findings)
    present, absent, empty = [], [], []
    for name, meta in series.items():
        path = folder / "train_images" / meta["patient_id"] / name
        (absent if not path.is_dir() else present if has_files(path) else empty).append((name, meta, path))
    problem = "a series of the table has no folder in train_images"
    listed = [f"{meta['patient_id']}/{name}" for name, meta, _ in absent]
    (findings.warn_if if options.partial else findings.error_if)(listed, problem)
    findings.error_if((f"{meta['patient_id']}/{name}" for name, meta, _ in empty), "a series has no files")
    for name, meta, path in present:
        adapted.rows += _row(name, meta, path, patients, masks, findings)
        options.progress(1)
    _check_strays(folder, series, patients, findings)
    _report(adapted, len(masks))
    return adapted


def _patient_labels(folder: Path, findings: Findings) -> dict[str, dict[str, str]]:
    """Patient to labels; both label tables are read where both are there, and their differences reported."""
    tables = {name: folder / name for name in LABEL_TABLES if (folder / name).is_file()}
    if not tables:
        findings.error(f"{folder.name}: expected {' or '.join(LABEL_TABLES)} in it, found neither; give the folder")
        return {}
    by_table = {name: _labels_of(path, findings) for name, path in tables.items()}
    used = next(iter(by_table))
    for other in list(by_table)[1:]:
        differing = [
            patient for patient, labels in by_table[other].items() if by_table[used].get(patient, labels) != labels
        ]
        findings.warn_if(differing, f"{used} and {other} disagree about a patient; {used} is used")
    findings.ok(f"labels of {len(by_table[used])} patients from {used}")
    return by_table[used]


def _labels_of(path: Path, findings: Findings) -> dict[str, dict[str, str]]:
    needed = ["patient_id", *(column for organ in ORGANS for column in one_hot_columns(organ))]
    labels = {}
    for patient, row in keyed(read_rows(path, findings, needed=needed), "patient_id", path.name, findings).items():
        grades = {organ: _grade(row, organ, patient, findings) for organ in ORGANS}
        if None in grades.values():
            continue
        cells = {f"{organ}_injury": str(int(grade != "0")) for organ, grade in grades.items()}
        cells |= {f"{organ}_grade": grades[organ] or "" for organ in THREE_GRADES}
        cells["any_injury"] = str(int(any(grade != "0" for grade in grades.values())))
        if row.get("any_injury") in ("0", "1") and row["any_injury"] != cells["any_injury"]:
            findings.warn(f"{path.name}: any_injury contradicts the organs, which are used", f"patient {patient}")
        labels[patient] = cells
    return labels


def _grade(row: Mapping[str, str], organ: str, patient: str, findings: Findings) -> str | None:
    """``0``, ``1`` or ``2`` from the one-hot columns; None where they are no such thing."""
    columns = one_hot_columns(organ)
    cells = [row[column] for column in columns]
    if sorted(cells) != ["0"] * (len(cells) - 1) + ["1"]:
        what = ", ".join(f"{column}={cell!r}" for column, cell in zip(columns, cells, strict=True))
        findings.error("a label is outside its set: expected one 1 and else 0", f"patient {patient}: {what}")
        return None
    return str(cells.index("1"))


def _row(
    name: str,
    meta: Mapping[str, str],
    path: Path,
    patients: Mapping[str, Mapping[str, str]],
    masks: Mapping[str, Path],
    findings: Findings,
) -> list[Row]:
    patient = meta["patient_id"]
    if patient not in patients:
        findings.error("a series is of a patient without labels", f"{patient}/{name}")
        return []
    modality = modality_of(path)
    if modality != "CT":
        findings.error("a series is not CT", f"{patient}/{name}: {modality or 'no readable DICOM file'}")
        return []
    mask = masks.get(name)
    linked = mask is not None and _is_on_grid(path, mask, f"{patient}/{name}", findings)
    cells = {"case": name, "patient": patient, "image": str(path), "mask": str(mask) if linked else ""}
    others = {column: cell for column, cell in meta.items() if column not in ("patient_id", "series_id")}
    return [{**cells, **patients[patient], **others}]


def _segmentations(folder: Path, series: Iterable[str], findings: Findings) -> dict[str, Path]:
    paths = {
        path.name.removesuffix(".gz").removesuffix(".nii"): path
        for path in listing(folder / "segmentations")
        if path.name.endswith((".nii", ".nii.gz"))
    }
    findings.warn_if(
        sorted(set(paths) - set(series)), "a segmentation belongs to no series of the table and is left out"
    )
    return {name: path for name, path in paths.items() if name in set(series)}


def _is_on_grid(series: Path, mask: Path, name: str, findings: Findings) -> bool:
    """Whether mask and series cover the same world box with the same voxels, whatever the order of their axes.

    The community flips these arrays by hand because it compares them as stored. Here both go through their affines,
    so a right affine needs no flip; one that puts the mask elsewhere would crop the wrong place, and is not linked.
    """
    try:
        scan, mask_header = read_header(series), read_header(mask)
    except ScanError as error:
        findings.warn("a segmentation cannot be compared with its series and is not linked", f"{name}: {error.what}")
        return False
    boxes = [_box(header.affine, header.shape) for header in (scan, mask_header)]
    apart = float(np.abs(boxes[0] - boxes[1]).max() / min(scan.spacing))
    if sorted(scan.shape) == sorted(mask_header.shape) and apart <= CORNER_TOLERANCE:
        return True
    grids = f"series {scan.shape} {scan.orientation}, mask {mask_header.shape} {mask_header.orientation}"
    difference = f"{name}: {grids}, {apart:.0f} voxels apart"
    findings.warn("a segmentation does not lie on the grid of its series and is not linked", difference)
    return False


def _box(affine: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Lowest and highest world coordinates (2, 3), mm, of the voxel centres."""
    ends = np.array([[i, j, k, 1] for i in (0, shape[0] - 1) for j in (0, shape[1] - 1) for k in (0, shape[2] - 1)])
    corners = (ends @ affine.T)[:, :3]
    return np.stack([corners.min(axis=0), corners.max(axis=0)])


def _check_strays(
    folder: Path, series: Mapping[str, Mapping[str, str]], patients: Iterable[str], findings: Findings
) -> None:
    """What lies there and stands in no table, or the other way round."""
    strays = []
    for patient in listing(folder / "train_images"):
        for scan in listing(patient):
            if scan.name not in series:
                strays.append(f"{patient.name}/{scan.name}")
            elif series[scan.name]["patient_id"] != patient.name:
                findings.error(
                    "a series lies in the folder of another patient than the table says",
                    f"{patient.name}/{scan.name}: table says {series[scan.name]['patient_id']}",
                )
    findings.warn_if(strays, f"a scan is not in {SERIES_TABLE}, so it has no label and is left out")
    with_series = {meta["patient_id"] for meta in series.values()}
    findings.warn_if(sorted(set(patients) - with_series), "a patient has labels and no series")


def _report(adapted: Adapted, num_masks: int) -> None:
    linked = sum(bool(row["mask"]) for row in adapted.rows)
    if num_masks:
        adapted.findings.ok(
            f"{linked} of {num_masks} segmentations linked as 'mask' (1 liver, 2 spleen, 3 left kidney,"
            " 4 right kidney, 5 bowel)"
        )
    cut = sum(row.get("incomplete_organ") == "1" for row in adapted.rows)
    adapted.findings.ok(
        f"{len(adapted.rows)} series (the paper used {USED_BY_THE_PAPER:,}), {cut} of them with"
        " incomplete_organ = 1, kept as a column"
    )
