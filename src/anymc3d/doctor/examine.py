"""The main job of the doctor: a manifest in, a report with every fault out, from top to bottom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from anymc3d.data.case import Case
from anymc3d.data.manifest import Manifest, inspect_manifest
from anymc3d.doctor.checks import Finding, in_order
from anymc3d.doctor.duplicates import duplicate_faults
from anymc3d.doctor.facts import Job, ScanFacts
from anymc3d.doctor.header_faults import exists, header_faults
from anymc3d.doctor.label_doubts import LabelDoubts, doubted_labels
from anymc3d.doctor.label_faults import Labels, labels_by_site, read_labels, too_rare_to_split
from anymc3d.doctor.manifest_faults import manifest_faults
from anymc3d.doctor.mask_faults import mask_faults
from anymc3d.doctor.orientation import flip_faults
from anymc3d.doctor.patient_faults import unnamed_patients
from anymc3d.doctor.scans import of_column, with_voxels
from anymc3d.doctor.voxel_faults import voxel_faults
from anymc3d.doctor.workers import Limits, Progress, measure_all
from anymc3d.settings.config import LabelSettings, TaskSettings

Facts = Mapping[tuple[int, str], ScanFacts]
"""By case index and manifest column."""


@dataclass(frozen=True, eq=False)
class Examination:
    """Everything that a report says."""

    manifest: Manifest
    findings: tuple[Finding, ...]
    labels: Labels
    asked_labels: tuple[str, ...]
    scans: Facts
    masks: Facts
    headers_only: bool
    doubted: LabelDoubts = field(default_factory=lambda: LabelDoubts((), ()))

    @property
    def has_errors(self) -> bool:
        """Whether training should not start."""
        return any(finding.severity == "error" for finding in self.findings)


def examine(
    manifest_path: Path | str,
    *,
    labels: Sequence[str] = (),
    task: TaskSettings | None = None,
    meaning: LabelSettings | None = None,
    headers_only: bool = False,
    tables_only: bool = False,
    processes: int = 0,
    limits: Limits | None = None,
    out_of_fold: Path | None = None,
    progress: Progress = lambda count: None,
    on_total: Progress = lambda count: None,
) -> Examination:
    """Find every fault of a data set; none of them is raised.

    Args:
        manifest_path: CSV or MedMNIST ``.npz``.
        labels: the label columns; without them and without a task labels are not looked at.
        task: a task file's settings: its labels, classes and modality are then expected.
        meaning: of the label columns, where it is known without a task.
        headers_only: voxels are not decoded, what only they show is not found.
        tables_only: no scan is opened, and none has to be there.
        processes: that read scans at once, with limits of time and memory; 0 reads in this process, without limits.
        limits: of one scan.
        out_of_fold: ``oof.csv`` of a run, whose confident answers are compared with the labels.
        progress: called after each file.
        on_total: called once with the number of files.
    """
    label_columns = tuple(task.labels.columns if task else labels)
    manifest, problems = inspect_manifest(manifest_path, labels=label_columns, check_scans=not tables_only)
    findings = manifest_faults(manifest, problems)
    known, label_findings = read_labels(manifest, label_columns, task.labels if task else meaning)
    findings += label_findings + labels_by_site(manifest, known) + unnamed_patients(manifest, known)
    findings += too_rare_to_split(manifest, known)
    doubted = LabelDoubts((), ()) if out_of_fold is None else doubted_labels(manifest, known, out_of_fold)
    findings += doubted.findings
    if tables_only:
        return Examination(manifest, tuple(in_order(findings)), known, label_columns, {}, {}, headers_only, doubted)
    scans, masks = _measured(manifest.cases, headers_only, processes, limits, progress, on_total)
    modality = task.data.modality if task else None
    for column in manifest.image_columns:
        of_this = of_column(manifest.cases, scans, column)
        findings += header_faults(of_this, known)
        # A mask in the image column was reported already; compared with scans it would be reported again and again.
        meant = [scan for scan in of_this if scan.case.images[column] not in scan.case.masks.values()]
        findings += voxel_faults(meant, modality, known) + flip_faults(with_voxels(meant))
    everything = [entry for column in manifest.image_columns for entry in of_column(manifest.cases, scans, column)]
    findings += duplicate_faults(with_voxels(everything), known) + mask_faults(manifest.cases, scans, masks)
    return Examination(manifest, tuple(in_order(findings)), known, label_columns, scans, masks, headers_only, doubted)


def _measured(
    cases: Sequence[Case],
    headers_only: bool,
    processes: int,
    limits: Limits | None,
    progress: Progress,
    on_total: Progress,
) -> tuple[Facts, Facts]:
    """The facts of all scans and masks; a file that stands in several cells is read once."""
    wanted: dict[tuple[int, str], Job] = {}
    for index, case in enumerate(cases):
        for column, reference in case.images.items():
            job = Job(reference, case.spacing, case.series(column), "scan", headers_only)
            wanted[index, column] = job
        for column, reference in case.masks.items():
            # An array has no spacing of its own; a mask with a header has its own, whatever the scan's cell says.
            spacing = case.spacing if reference.lower().endswith(".npy") else None
            wanted[index, column] = Job(reference, spacing, None, "mask", headers_only)
    jobs = [job for job in dict.fromkeys(wanted.values()) if exists(job.reference)]
    on_total(len(jobs))
    facts = dict(zip(jobs, measure_all(jobs, processes=processes, limits=limits, progress=progress), strict=True))
    measured = {place: (job.kind, facts[job]) for place, job in wanted.items() if job in facts}
    scans = {place: fact for place, (kind, fact) in measured.items() if kind == "scan"}
    return scans, {place: fact for place, (kind, fact) in measured.items() if kind == "mask"}
