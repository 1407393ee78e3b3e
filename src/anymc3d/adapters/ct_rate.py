"""CT-RATE, chest CT with 18 findings (task T11): one case per reconstruction.

Layout (supplement B): ``dataset/train/train_1/train_1_a/train_1_a_1.nii.gz`` (patient, scan letter, reconstruction),
``train_fixed`` and ``valid_fixed`` in the corrected release, ``multi_abnormality_labels/*_predicted_labels.csv``,
``metadata/*_metadata.csv``. The official train part minus a validation by patient is train, the official valid part
is test, as in the paper.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from anymc3d.adapters.ct_rate_release import check_release, convert_all, read_conversion
from anymc3d.adapters.findings import Findings
from anymc3d.adapters.rows import Adapted, AdaptOptions, Row
from anymc3d.adapters.side_tables import cleaned, keyed, read_rows
from anymc3d.data.splits import make_splits
from anymc3d.recipes.chest import CT_RATE_LABELS

FINDINGS = CT_RATE_LABELS
"""The label columns, in the order of the challenge."""
METADATA = {
    "PatientSex": "sex",
    "PatientAge": "age",
    "Manufacturer": "manufacturer",
    "ManufacturerModelName": "scanner",
    "ConvolutionKernel": "kernel",
}
"""Columns of the metadata table that become metadata of the manifest."""
VALIDATION_VOLUMES, SMALL_SET, SMALL_SHARE = 2000, 20_000, 0.1
"""The paper's validation; of a smaller part of the set, a tenth."""
_NAME = re.compile(r"((?:train|valid)_\d+)_([a-z]+)_(\d+)\.nii\.gz")


@dataclass(frozen=True)
class Part:
    """One official part: the beginning of its names, its folders by release, and its tables."""

    name: str
    labels: str
    metadata: str

    @property
    def folders(self) -> dict[str, str]:
        """Folder name to the release that it is expected to be of."""
        return {f"{self.name}_fixed": "v2", self.name: "first"}


PARTS = (
    Part("train", "train_predicted_labels.csv", "train_metadata.csv"),
    Part("valid", "valid_predicted_labels.csv", "validation_metadata.csv"),
)


def adapt_ct_rate(folder: Path, options: AdaptOptions) -> Adapted:
    """One row per volume of the label tables; the voxels must be Hounsfield units, see ``ct_rate_release``."""
    adapted = Adapted(labels=FINDINGS)
    findings = adapted.findings
    root = folder / "dataset" if (folder / "dataset").is_dir() else folder
    volumes: dict[str, Path] = {}
    metadata: dict[str, Mapping[str, str]] = {}
    for part in PARTS:
        part_volumes, meta = _read_part(root, part, options, adapted)
        volumes |= part_volumes
        metadata |= meta
    if not adapted.rows and not findings.has_errors:
        findings.error("no volume of the label tables is here; expected dataset/train_fixed/train_1/train_1_a/…")
    if findings.has_errors:
        return adapted
    conversions = {name: read_conversion(name, metadata.get(name), findings) for name in volumes}
    known = {name: conversion for name, conversion in conversions.items() if conversion is not None}
    release = check_release(volumes, known, options, findings)
    if release == "first" and options.convert is not None:
        copies = convert_all(volumes, known, options, findings)
        for row in adapted.rows:
            row["image"] = str(copies.get(row["case"] + ".nii.gz", ""))
        adapted.rows = [row for row in adapted.rows if row["image"]]
    _add_splits(adapted.rows, options, findings)
    return adapted


def _read_part(
    root: Path, part: Part, options: AdaptOptions, adapted: Adapted
) -> tuple[dict[str, Path], dict[str, Mapping[str, str]]]:
    """Add the rows of one official part; its volumes and their metadata by volume name."""
    findings = adapted.findings
    on_disk = _volumes(root, part, findings)
    table = root / "multi_abnormality_labels" / part.labels
    if not table.is_file():
        if on_disk:
            findings.error(f"there are volumes of {part.name} and no {table.relative_to(root)}")
        return {}, {}
    labels = keyed(read_rows(table, findings, needed=("VolumeName", *FINDINGS)), "VolumeName", part.labels, findings)
    metadata = _metadata(root / "metadata" / part.metadata, findings)
    excluded = _not_chest(root / "metadata" / f"no_chest_{part.name}.txt")
    absent = [name for name in labels if name not in on_disk and name not in excluded]
    complain = findings.warn_if if options.partial else findings.error_if
    if absent and not on_disk:
        complain([part.name], f"no volume of an official part is here, {len(absent)} are in its label table")
    else:
        complain(absent, "a volume of the label table is not here")
    findings.warn_if(sorted(set(on_disk) - set(labels)), "a scan has no row in the label table: left out")
    left_out = sorted(excluded & set(labels))
    findings.warn_if(left_out, f"the set's own list no_chest_{part.name}.txt names a volume: left out")
    volumes = {name: path for name, path in on_disk.items() if name in labels and name not in excluded}
    for name in list(volumes):
        row = _row(name, volumes[name], labels[name], metadata.get(name, {}), part, findings)
        if row is not None:
            adapted.rows.append(row)
    return volumes, metadata


def _volumes(root: Path, part: Part, findings: Findings) -> dict[str, Path]:
    """Volume name to file, below the part's folder of either release, nested or flat; both releases are an error."""
    folders = [root / name for name in part.folders if (root / name).is_dir()]
    if len(folders) > 1:
        findings.error(f"both releases are here ({', '.join(path.name for path in folders)}); move one of them away")
        return {}
    paths: dict[str, Path] = {}
    for folder in folders:
        for path in sorted(folder.rglob("*.nii.gz")):
            match = _NAME.fullmatch(path.name)
            if match is None or not path.name.startswith(part.name):
                findings.warn(f"a file in {folder.name} is not named like a volume and is left out", path.name)
            elif path.name in paths:
                findings.error("a volume lies in two places", f"{paths[path.name]} and {path}")
            else:
                paths[path.name] = path
    return paths


def _metadata(path: Path, findings: Findings) -> dict[str, Mapping[str, str]]:
    if not path.is_file():
        findings.warn(f"no metadata/{path.name}: no spacing to compare with, no sex and age")
        return {}
    needed = ("VolumeName", "RescaleSlope", "RescaleIntercept", "XYSpacing", "ZSpacing")
    return dict(keyed(read_rows(path, findings, needed=needed), "VolumeName", path.name, findings))


def _not_chest(path: Path) -> set[str]:
    if not path.is_file():
        return set()
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return {line.strip().rpartition("/")[2] for line in lines if line.strip()}


def _row(
    name: str, path: Path, labels: Mapping[str, str], meta: Mapping[str, str], part: Part, findings: Findings
) -> Row | None:
    cells = {finding: labels[finding].removesuffix(".0") for finding in FINDINGS}
    wrong = [f"{name}: {finding} is {cell!r}" for finding, cell in cells.items() if cell not in ("", "0", "1")]
    findings.error_if(wrong, "a label is outside its set: expected 0 or 1")
    match = _NAME.fullmatch(name)
    if wrong or match is None:
        return None
    patient, scan, _ = match.groups()
    facts = {column: cleaned(meta.get(source, "")) for source, column in METADATA.items()}
    facts["age"] = facts["age"].lstrip("0").removesuffix("Y")
    cells_of_scan = {"case": name.removesuffix(".nii.gz"), "patient": patient, "image": str(path)}
    return {
        **cells_of_scan,
        "split": "test" if part.name == "valid" else "train",
        **cells,
        "scan": f"{patient}_{scan}",
        **facts,
    }


def _add_splits(rows: Sequence[Row], options: AdaptOptions, findings: Findings) -> None:
    """Deal patients of the official train part out to validation, stratified on all 18 labels."""
    pool = [row for row in rows if row["split"] == "train"]
    if not pool:
        findings.warn("no volume of the official train part is here: all are test")
        return
    wanted = options.num_validation
    if wanted is None:
        wanted = VALIDATION_VOLUMES if len(pool) >= SMALL_SET else round(SMALL_SHARE * len(pool))
    if not 0 <= wanted < len(pool):
        findings.error(f"--validation: expected fewer than the {len(pool)} volumes of train, got {wanted}")
        return
    targets = np.array([[float(row[name]) if row[name] else np.nan for name in FINDINGS] for row in pool])
    share = wanted / len(pool)
    splits = make_splits([row["patient"] for row in pool], targets, fractions=(1 - share, share, 0), seed=options.seed)
    for row, split in zip(pool, splits, strict=True):
        row["split"] = split
    made = splits.count("val")
    findings.ok(
        f"validation: {made} volumes (wanted {wanted}) of {len({r['patient'] for r in pool if r['split'] == 'val'})}"
        f" patients out of the official train part, by patient, stratified, seed {options.seed}; test: official valid"
    )
