"""MedMNIST 3D files: one row per volume, splits as published.

The ``.npz`` is a manifest by itself; a CSV of it is for adding columns, or for folds.
"""

from __future__ import annotations

from pathlib import Path

from anymc3d.adapters.public_sets import MEDMNIST_CLASSES, PUBLIC_SETS, md5_of
from anymc3d.adapters.rows import Adapted, AdaptOptions
from anymc3d.adapters.side_tables import listing
from anymc3d.data.medmnist import inspect_npz


def adapt_medmnist(path: Path, _options: AdaptOptions) -> Adapted:
    """``path``: the ``.npz``, or a folder that holds exactly one. Label columns as in the manifest of an ``.npz``."""
    adapted = Adapted()
    findings = adapted.findings
    candidates = (
        [path] if path.is_file() else [path_below for path_below in listing(path) if path_below.suffix == ".npz"]
    )
    if len(candidates) != 1:
        findings.error(
            f"expected one .npz, found {len(candidates)}; give the file itself",
            [candidate.name for candidate in candidates],
        )
        return adapted
    file = candidates[0]
    columns, cases, problems = inspect_npz(file)
    findings.error_if(problems, f"{file.name} is not a MedMNIST 3D file")
    adapted.labels = tuple(column for column in columns if column.startswith("label"))
    for case in cases:
        cells = {"case": case.id, "patient": case.patient, "image": case.images["image"], "split": case.split or ""}
        adapted.rows.append({**cells, **case.cells})
    if problems:
        return adapted
    findings.ok(f"{file.name} is a manifest by itself: every command takes it in the place of a CSV")
    findings.warn(
        "the file names no patients: each volume counts as one (the published splits are by patient;"
        " folds made here could part two volumes of one)"
    )
    _compare_hash(file, adapted)
    classes = MEDMNIST_CLASSES.get(file.stem.removesuffix("_64"))
    if classes:
        findings.ok("classes: " + ", ".join(f"{number} {name}" for number, name in enumerate(classes)))
    return adapted


def _compare_hash(file: Path, adapted: Adapted) -> None:
    entry = PUBLIC_SETS.get(file.stem)
    if entry is None or entry.file is None:
        adapted.findings.warn("the file's name is none of the published sets: its content is not compared")
        return
    md5 = md5_of(file)
    if md5 == entry.file.md5:
        adapted.findings.ok(f"the content is the published one (md5 {md5})")
    else:
        adapted.findings.warn(f"the content is not the published one: md5 {md5}, published {entry.file.md5}")
