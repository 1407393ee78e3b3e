"""PanDx over a manifest, stage by stage in one folder; the same call again resumes (docs/methods.md).

``OUT/low/images`` -> nnU-Net -> ``OUT/low/results`` -> ``OUT/high/images`` -> nnU-Net -> ``OUT/high/results`` ->
``OUT/detections`` and ``OUT/predictions.csv``; where the manifest has masks also ``lesions.csv``.
"""

from __future__ import annotations

import gzip
import logging
import shlex
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import nibabel
import numpy as np
from numpy.typing import NDArray

from anymc3d.data.case import Case
from anymc3d.data.mask_grid import read_on_grid
from anymc3d.data.readers import content_hash, read_volume
from anymc3d.data.scan_grid import resample
from anymc3d.data.volume import Affine, Millimetres, Volume, crop_to, to_ras
from anymc3d.errors import ScanError, UsageError
from anymc3d.evaluate.lesions import LesionResult, lesion_average_precision, match_lesions
from anymc3d.evaluate.outputs import prediction_cells, prediction_columns
from anymc3d.explain.folder import file_name
from anymc3d.files import atomic
from anymc3d.files.containment import inside
from anymc3d.files.folders import claim, locked
from anymc3d.files.private import make_private
from anymc3d.files.tables import write_table
from anymc3d.pandx.candidates import CandidateRule, find_candidates
from anymc3d.pandx.crops import mask_on_scan, mask_path
from anymc3d.pandx.geometry import COARSE_MM, MARGIN_MM, coarse, region_about
from anymc3d.pandx.nnunet import PROGRAM, Model, find_map, read_mask, read_probability, run_model

LESION = 1
"""Label of PDAC in PANORAMA's masks, and its channel in the second network's softmax."""
LEAST = 1e-9
"""Scores are kept so far from 0 and 1 that their log-odds are finite."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class PandxSettings:
    """What decides the result, nnU-Net's own weights aside."""

    label: str = "pdac"
    """Column of the manifest that the score is of."""
    low: Model = field(default_factory=lambda: Model(dataset="103"))
    high: Model = field(
        default_factory=lambda: Model(dataset="107", trainer="nnUNetTrainerCELossLesionSplit", plans="nnUNetPlans")
    )
    coarse_mm: Millimetres = COARSE_MM
    margin_mm: Millimetres = MARGIN_MM
    candidates: CandidateRule = field(default_factory=CandidateRule)


@dataclass(frozen=True, kw_only=True)
class PandxResult:
    """``waiting``: the commands of nnU-Net that must be run before the same call can go on; empty when all is done."""

    num_cases: int
    num_failed: int = 0
    waiting: str = ""
    lesion_average_precision: float | None = None
    num_lesions: int = 0

    @property
    def exit_code(self) -> int:
        """75 when nnU-Net must be run, else 0, 3 (some cases failed) or 4 (all did)."""
        if self.waiting:
            return 75
        return 0 if self.num_failed == 0 else 4 if self.num_failed == self.num_cases else 3


def run_pandx(
    cases: Sequence[Case],
    out: Path,
    settings: PandxSettings = PandxSettings(),
    *,
    program: str | None = None,
    timeout_s: float = 7 * 86400,
) -> PandxResult:
    """Score every case as far as nnU-Net's results allow.

    Args:
        cases: of a manifest; each has one image, and where lesions are to be counted a mask.
        out: new, empty, or of the same settings and scans.
        program: nnU-Net's ``nnUNetv2_predict`` to run; None: its commands are given back instead.
        timeout_s: for one run of the program.

    Raises:
        UsageError: nnU-Net fails, or a case has not exactly one image.
        RunFolderError: the folder is of another run, or in use.
    """
    wrong = [case.id for case in cases if len(case.images) != 1]
    if wrong or not cases:
        raise UsageError(f"pandx: expected cases with one image each, got {len(cases)} cases; others: {wrong[:3]}")
    with locked(out):
        run = _Run(cases, out, settings)
        claim(out / "pandx.json", {"settings": asdict(settings), "scans": run.hashes()}, "anymc3d pandx")
        for stage, write in (("low", run.write_coarse), ("high", run.write_region)):
            waiting = run.stage(stage, write, program, timeout_s)
            if waiting:
                return PandxResult(num_cases=len(cases), waiting=waiting)
        return run.score()


class _Run:
    def __init__(self, cases: Sequence[Case], out: Path, settings: PandxSettings) -> None:
        self.cases, self.out, self.settings = cases, out, settings
        self.faults: dict[str, str] = {}
        self.notes: dict[str, str] = {}
        self.lesions: list[tuple[str, LesionResult]] = []

    def hashes(self) -> dict[str, str | None]:
        hashes = {}
        for case in self.cases:
            (column,) = case.images
            try:
                hashes[case.id] = content_hash(case.images[column], series=case.series(column))
            except ScanError as error:
                hashes[case.id], self.faults[case.id] = None, error.what
        return hashes

    def stage(self, name: str, write: Callable[[Case, Path], None], program: str | None, timeout_s: float) -> str:
        """Write the images of a stage and have them read by nnU-Net; returns its command where that is still to do."""
        images, results = self.out / name / "images", self.out / name / "results"
        make_private(images)
        make_private(self.out / "low" / "masks")
        for case in self.cases:
            if case.id not in self.faults and self._result(name, case) is None:
                self._attempt(case, lambda case=case: write(case, inside(images, f"{file_name(case.id)}_0000.nii.gz")))
        if not self._missing(name):
            return ""
        model = self.settings.low if name == "low" else self.settings.high
        command = model.command(program or PROGRAM, images, results, probabilities=name == "high")
        if program is None:
            return shlex.join(command)
        _log.info("nnU-Net, %s resolution: %d cases", name, len(self._missing(name)))
        run_model(command, timeout_s)
        for case in self._missing(name):
            self.faults[case.id] = f"nnU-Net left no result of its {name}-resolution network"
        return ""

    def write_coarse(self, case: Case, path: Path) -> None:
        if not path.is_file():
            write_volume(path, *_parts(coarse(self._scan(case), self.settings.coarse_mm)))

    def write_region(self, case: Case, path: Path) -> None:
        """The second network's image, and beside it the pancreas on the scan's grid, for ``pandx.crops``."""
        drawn = mask_path(self.out, case)
        if path.is_file() and drawn.is_file():
            return
        scan = self._scan(case)
        labels, affine = read_mask(inside(self.out, "low", "results", f"{file_name(case.id)}.nii.gz"))
        write_volume(drawn, mask_on_scan(labels, affine, scan), scan.affine)
        box, _ = region_about(labels, affine, scan, self.settings.margin_mm)
        write_volume(path, *_parts(crop_to(scan, box)))

    def score(self) -> PandxResult:
        rows = []
        for case in self.cases:
            row = {"case": case.id, "status": "error", "message": self.faults.get(case.id, "")}
            if case.id not in self.faults:
                self._attempt(case, lambda case=case, row=row: row.update(self._cells(case)))
                row["message"] = self.faults.get(case.id, row["message"])
            rows.append(row)
        write_table(self.out / "predictions.csv", prediction_columns([self.settings.label]), rows)
        results = [result for _, result in self.lesions]
        if results:
            cells = [
                {"case": case, **asdict(result) | {"is_lesion": int(result.is_lesion)}} for case, result in self.lesions
            ]
            write_table(self.out / "lesions.csv", ("case", "is_lesion", "confidence", "overlap"), cells)
        return PandxResult(
            num_cases=len(self.cases),
            num_failed=len(self.faults),
            lesion_average_precision=lesion_average_precision(results),
            num_lesions=sum(result.is_lesion for result in results),
        )

    def _cells(self, case: Case) -> dict[str, str]:
        path = self._result("high", case)
        if path is None:
            raise ScanError("nnU-Net left no probabilities of its high-resolution network")
        probability, affine = read_probability(path, LESION)
        candidates = find_candidates(probability, self.settings.candidates)
        scan = self._scan(case)
        detection = resample(candidates.detection, affine, scan.shape, scan.affine, order="nearest")
        write_volume(inside(self.out, "detections", f"{file_name(case.id)}.nii.gz"), detection, scan.affine)
        self._count_lesions(case, Volume(detection, scan.affine))
        labels, _ = read_mask(inside(self.out, "low", "results", f"{file_name(case.id)}.nii.gz"))
        note = "" if (labels == 1).any() else "no pancreas was drawn: the whole scan was searched"
        score = np.array([min(max(candidates.score, LEAST), 1 - LEAST)])
        cells = prediction_cells([self.settings.label], np.log(score / (1 - score)), score, score >= 0.5)
        return {"status": "warn" if note else "ok", "message": note, **cells}

    def _count_lesions(self, case: Case, detection: Volume) -> None:
        """Masks that a network drew outline no lesions reliably and are left out."""
        (column,) = case.images
        mask = case.mask(column)
        if mask is None or case.cells.get("mask_source", "manual") != "manual":
            return
        lesions = read_on_grid(case.masks[mask], detection, spacing=case.spacing) == LESION
        self.lesions += [(case.id, result) for result in match_lesions(to_ras(detection).voxels, lesions)]

    def _result(self, stage: str, case: Case) -> Path | None:
        folder = self.out / stage / "results"
        mask = folder / f"{file_name(case.id)}.nii.gz"
        return find_map(folder, file_name(case.id)) if stage == "high" else mask if mask.is_file() else None

    def _missing(self, stage: str) -> list[Case]:
        return [case for case in self.cases if case.id not in self.faults and self._result(stage, case) is None]

    def _scan(self, case: Case) -> Volume:
        (column,) = case.images
        return read_volume(case.images[column], spacing=case.spacing, series=case.series(column))

    def _attempt(self, case: Case, step: Callable[[], None]) -> None:
        try:
            step()
        except ScanError as error:
            self.faults[case.id] = error.what


def write_volume(path: Path, voxels: NDArray[np.float32] | NDArray[np.uint8], affine: Affine) -> None:
    """A compressed NIfTI with nothing but voxels and affine, whole or not at all."""
    image = nibabel.Nifti1Image(voxels, affine)
    image.header.set_xyzt_units("mm")
    atomic.write_bytes(path, gzip.compress(image.to_bytes(), compresslevel=1, mtime=0))


def _parts(volume: Volume) -> tuple[NDArray[np.float32], Affine]:
    return volume.voxels, volume.affine
