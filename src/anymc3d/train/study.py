"""The cases of a task: manifest, labels and a split for every case."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from anymc3d.data.covariate_checks import check_covariates
from anymc3d.data.covariates import column_of
from anymc3d.data.labels import absent_classes, encode, strata, unlearnable
from anymc3d.data.manifest import Manifest, read_manifest
from anymc3d.data.pseudonyms import Pseudonyms
from anymc3d.data.splits import assign_splits
from anymc3d.errors import ManifestError
from anymc3d.settings.config import LabelSettings, TaskSettings


@dataclass(frozen=True)
class Study:
    """The cases of a task: the manifest with a split for every case, and targets (n, L) in its order."""

    manifest: Manifest
    splits: tuple[str, ...]
    targets: np.ndarray
    written: Manifest
    """What the run folder gets of the manifest: all, or under pseudonyms only ids, folds and the task's labels."""
    excluded: frozenset[int] = frozenset()
    """Positions of cases that the settings of a view's region leave out: they are in no split."""

    def indices(self, split: str, *, labelled: bool = True) -> list[int]:
        """Positions of the cases of one split; those without any label are left out unless asked for."""
        known = ~np.isnan(self.targets).all(axis=1)
        wanted = (i for i, name in enumerate(self.splits) if name == split and (known[i] or not labelled))
        return [i for i in wanted if i not in self.excluded]


def load_study(task: TaskSettings, pseudonyms: Pseudonyms | None = None, *, check_scans: bool = True) -> Study:
    """Read manifest and labels, and split the cases where the manifest does not.

    With ``pseudonyms`` the cases get other ids, after the split, which is by the ids of the manifest. Without
    ``check_scans`` a scan need not be there.

    Raises:
        ManifestError: every fault of the manifest, or a split without cases to train or select on.
        UsageError: a covariate that is none, or that says what the label says.
    """
    manifest = read_manifest(task.data.manifest, labels=task.labels.columns, check_scans=check_scans)
    targets = encode(manifest.cases, task.labels)
    check_covariates(task.covariates, manifest, targets, task.labels)
    splits = assign_splits(
        manifest.cases,
        strata(targets, task.labels),
        fractions=task.data.fractions,
        seed=task.data.split_seed,
    )
    written = manifest
    if pseudonyms is not None:
        manifest = replace(manifest, cases=tuple(pseudonyms.rename(manifest.cases)))
        written = _without_scans(manifest, task.labels.columns)
    study = Study(manifest, tuple(splits), targets, written)
    check_splits(study, task.labels)
    return study


def cases_hash(study: Study, positions: Iterable[int]) -> str:
    """Sha256 over ids, patients, splits and labels of some cases."""
    cases = ((study.manifest.cases[index], index) for index in positions)
    lines = [f"{case.id}|{case.patient}|{study.splits[index]}|{study.targets[index].tolist()}" for case, index in cases]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def covariates_record(study: Study, names: Sequence[str], positions: Iterable[int]) -> dict[str, str]:
    """For the identity of a run: sha256 over the covariates of some cases; nothing of a task without."""
    if not names:
        return {}
    cells = [[study.manifest.cases[index].cells.get(column_of(name), "") for name in names] for index in positions]
    return {"covariates": hashlib.sha256(json.dumps(cells).encode()).hexdigest()}


def masks_hash(study: Study, positions: Iterable[int] | None = None) -> str:
    """Sha256 over which masks cases have, by their names, and which structures were looked for in them.

    ``positions``: None = all cases that are trained or selected on. What the files hold is not in it.
    """
    wanted = [*study.indices("train"), *study.indices("val")] if positions is None else positions
    lines = []
    for case in (study.manifest.cases[index] for index in wanted):
        names = {column: Path(reference).name for column, reference in sorted(case.masks.items())}
        lines.append(f"{case.id}|{names}|{case.mask_classes}")
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def check_studies(tasks: Mapping[str, TaskSettings], what: str) -> None:
    """Check that every one of several runs can be trained, before the first is; ``tasks``: by what messages call them.

    Raises:
        ManifestError: of ``what``, every problem of every run.
    """
    problems = []
    for name, task in tasks.items():
        try:
            load_study(task)
        except ManifestError as error:
            problems += [f"{name}: {problem}" for problem in error.problems]
    if problems:
        raise ManifestError(what, problems)


def leave_out(study: Study, positions: Collection[int], labels: LabelSettings) -> Study:
    """The study without some cases.

    Raises:
        ManifestError: what is left cannot be trained on.
    """
    left = replace(study, excluded=study.excluded | frozenset(positions))
    check_splits(left, labels)
    return left


def check_splits(study: Study, labels: LabelSettings) -> None:
    """Check that there are cases to train and select on.

    Raises:
        ManifestError: with every split that has too few.
    """
    problems = []
    for split in ("train", "val"):
        split_targets = study.targets[study.indices(split)]
        if len(split_targets) == 0:
            problems.append(f"split {split!r}: expected cases with labels, got none")
        elif split == "train":
            problems += [f"split 'train': {problem}" for problem in unlearnable(split_targets, labels)]
    if problems:
        raise ManifestError(str(study.manifest.path), problems)


def undefined_figures(study: Study, labels: LabelSettings) -> list[str]:
    """One line per class that no case of ``val`` or ``test`` has: ranking results of it are undefined there."""
    then = {
        "val": "its AUROC is undefined there, so the epoch is chosen without it (by loss, if none is left)",
        "test": "its AUROC will be undefined there",
    }
    lines = []
    for split, consequence in then.items():
        targets = study.targets[study.indices(split)]
        for column, values in zip(labels.columns, targets.T, strict=True):
            absent = absent_classes(values, labels)
            if absent and len(targets):
                what = "class" if len(absent) == 1 else "classes"
                names = ", ".join(map(repr, absent))
                lines.append(f"split {split!r}: no case of {column!r} has the {what} {names}: {consequence}")
    return lines


def _without_scans(manifest: Manifest, labels: tuple[str, ...]) -> Manifest:
    """No path, which is often a name, and no metadata, which may be dates and places."""
    columns = tuple(column for column in manifest.columns if column in labels or column == "fold")
    cases = [
        replace(case, images={}, masks={}, center=None, cells={name: case.cells[name] for name in labels})
        for case in manifest.cases
    ]
    return replace(manifest, columns=columns, cases=tuple(cases))
