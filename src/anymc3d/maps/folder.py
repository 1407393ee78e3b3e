"""Segmentations of many cases: ``OUT/segmentations/<case>.nii.gz``, and ``OUT/segmentations.csv``.

A plugin of several image columns draws each: ``<case>.<view>.nii.gz``, named as in ``image.<view>``. What is finished
stands in ``OUT/segmentations/journal.jsonl``; the same run again skips it while scans and masks are unchanged.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.orientations import apply_orientation, io_orientation

from anymc3d.cost.progress import Progress
from anymc3d.data.case import Case, view_of
from anymc3d.data.case_faults import CaseFault, attempt
from anymc3d.data.mask_grid import read_on_grid
from anymc3d.data.mask_slices import annotated_labels, check_annotated
from anymc3d.data.pseudonyms import Pseudonyms
from anymc3d.data.readers import content_hash
from anymc3d.errors import ScanError
from anymc3d.explain.folder import file_name
from anymc3d.files import atomic, journal
from anymc3d.files.containment import inside
from anymc3d.files.folders import check_there, locked
from anymc3d.files.tables import write_table
from anymc3d.maps.case_maps import Drawn, segment_case, structures
from anymc3d.predict.cohort import RECORD, check_kept, read_journal
from anymc3d.predict.faults import predict_fault
from anymc3d.predict.predictor import Predictor

FOLDER, TABLE, JOURNAL = "segmentations", "segmentations.csv", "journal.jsonl"
COLUMNS = ("case", "image", "label", "status", "message", "volume_ml", "true_volume_ml", "dice")

Row = dict[str, str]


def segment_cohort(
    predictor: Predictor,
    cases: Sequence[Case],
    out: Path,
    *,
    pseudonyms: Pseudonyms | None = None,
    quiet: bool = False,
) -> list[Row]:
    """Segment every case with the predictor's one plugin into ``out``, a folder of its predictions.

    A case that fails has one row with status ``error``. A mask that cannot be used costs the scores, not the map.
    The rows of earlier runs into ``out`` stay in the table, after those of ``cases``, which are returned.

    Raises:
        RunFolderError: another process works in ``out``, or answers would be lost.
        OutputError: something cannot be written; what is finished is kept.
    """
    cases = cases if pseudonyms is None else pseudonyms.rename(cases)
    folder, rows = out / FOLDER, []
    with locked(out):
        journalled, seen = read_journal(folder / JOURNAL), set()
        check_kept(out / TABLE, {case.id for case in cases} | journalled.keys())
        with journal.opened(folder / JOURNAL) as lines:
            for case in Progress(cases, what="segmenting", unit="case", quiet=quiet):
                key = _inputs_key(predictor, case, pseudonyms)
                entry = journalled.get(case.id)
                if entry is None or key is None or entry["inputs"] != key or not _is_there(folder, entry["rows"]):
                    check_there(out / RECORD)
                    entry = {"case": case.id, "inputs": key, "rows": _segment(predictor, case, folder)}
                    lines.append(entry)
                rows += entry["rows"]
                seen.add(case.id)
        earlier = [row for name in sorted(journalled.keys() - seen) for row in journalled[name]["rows"]]
        check_there(out / RECORD)
        write_table(out / TABLE, COLUMNS, [{name: row[name] for name in COLUMNS} for row in [*rows, *earlier]])
    return rows


def _is_there(folder: Path, rows: Sequence[Row]) -> bool:
    """Whether a case was done, and its maps still lie where they were written."""
    return all(row["status"] != "error" and inside(folder, row["file"]).is_file() for row in rows)


def _segment(predictor: Predictor, case: Case, folder: Path) -> list[Row]:
    rows = attempt(lambda: _drawn_rows(predictor, case, folder), case, describe=predict_fault)
    if isinstance(rows, CaseFault):
        empty = dict.fromkeys((*COLUMNS, "file"), "")
        return [empty | {"case": case.id, "status": "error", "message": rows.message}]
    return rows


def _drawn_rows(predictor: Predictor, case: Case, folder: Path) -> list[Row]:
    columns = {view.image for view in predictor.plugins[0].card.preprocessing.values()}
    rows = []
    for answer in segment_case(predictor, case):
        ending = "" if len(columns) == 1 else f".{view_of(answer.column)}"
        name = f"{file_name(case.id)}{ending}.nii.gz"
        atomic.write_bytes(inside(folder, name), nifti_bytes(answer))
        rows += [{**row, "file": name} for row in compare(predictor, case, answer)]
    return rows


def nifti_bytes(drawn: Drawn) -> bytes:
    """Compressed NIfTI with the scan's affine as sform and no qform, which cannot hold every affine."""
    image = nib.Nifti1Image(drawn.labels, drawn.affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(drawn.affine, code=1)
    image.set_qform(None, code=0)
    return gzip.compress(image.to_bytes(), compresslevel=6, mtime=0)


def compare(predictor: Predictor, case: Case, drawn: Drawn) -> list[Row]:
    """One row a structure: its volume, and where the case has a mask of the scan the true one and their Dice."""
    fitted = predictor.scans(case).case
    voxel_ml = abs(float(np.linalg.det(drawn.affine[:3, :3]))) / 1000
    truth, message = _truth(fitted, drawn)
    annotated = None if truth is None else annotated_labels(fitted)
    ours = apply_orientation(drawn.labels, io_orientation(drawn.affine))
    rows = []
    for label in structures(predictor):
        row = {"case": case.id, "image": drawn.column, "label": str(label), "status": "ok", "message": ""}
        is_label = ours == label
        figures = {"volume_ml": f"{is_label.sum() * voxel_ml:.9g}", "true_volume_ml": "", "dice": ""}
        if message:
            row |= {"status": "warn", "message": message}
        elif truth is not None and (annotated is None or label in annotated):
            true = truth == label
            total = int(is_label.sum()) + int(true.sum())
            figures["true_volume_ml"] = f"{true.sum() * voxel_ml:.9g}"
            if total:
                figures["dice"] = f"{2 * int((is_label & true).sum()) / total:.9g}"
            else:
                row["message"] = "neither mask nor answer holds this structure: Dice is undefined"
        rows.append(row | figures)
    return rows


def _truth(case: Case, drawn: Drawn) -> tuple[Any, str]:
    """The mask of a scan in RAS order, or None; and why it cannot be used."""
    column = case.mask(drawn.column)
    if column is None:
        return None, ""
    try:
        truth = read_on_grid(case.masks[column], drawn, spacing=case.spacing)
        check_annotated(np.unique(truth), case)
    except ScanError as error:
        return None, f"{column}: {error.what}"
    return truth, ""


def _inputs_key(predictor: Predictor, case: Case, pseudonyms: Pseudonyms | None) -> str | None:
    """What a case's rows depend on besides the plugin; None where a file cannot be read."""
    views = list(predictor.plugins[0].card.preprocessing.values())

    def facts_of() -> Mapping[str, Any]:
        return {
            "hashes": predictor.scans(case).hashes(views),
            "masks": {column: content_hash(reference) for column, reference in case.masks.items()},
            "annotated": case.mask_classes,
            "spacing": case.spacing,
            "center": case.center,
        }

    facts = attempt(facts_of, case)
    if isinstance(facts, CaseFault):
        return None
    key = json.dumps(facts, sort_keys=True)
    return hashlib.sha256(key.encode()).hexdigest() if pseudonyms is None else pseudonyms.seal(key)
