"""The cases of a task: manifest, labels and a split for every case."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from anymc3d.config import TaskSettings
from anymc3d.data.labels import encode, unlearnable
from anymc3d.data.manifest import Manifest, read_manifest
from anymc3d.data.splits import assign_splits
from anymc3d.errors import ManifestError


@dataclass(frozen=True)
class Study:
    """The cases of a task: the manifest with a split for every case, and targets (n, L) in its order."""

    manifest: Manifest
    splits: tuple[str, ...]
    targets: np.ndarray

    def indices(self, split: str, *, labelled: bool = True) -> list[int]:
        """Positions of the cases of one split; those without any label are left out unless asked for."""
        known = ~np.isnan(self.targets).all(axis=1)
        return [i for i, name in enumerate(self.splits) if name == split and (known[i] or not labelled)]


def load_study(task: TaskSettings) -> Study:
    """Read manifest and labels, and split the cases where the manifest does not.

    Raises:
        ManifestError: every fault of the manifest, or a split without cases to train or select on.
    """
    manifest = read_manifest(task.data.manifest, labels=task.labels.columns)
    targets = encode(manifest.cases, task.labels)
    splits = assign_splits(manifest.cases, targets, fractions=task.data.fractions, seed=task.data.split_seed)
    study = Study(manifest, tuple(splits), targets)
    problems = []
    for split in ("train", "val"):
        found = study.targets[study.indices(split)]
        if len(found) == 0:
            problems.append(f"split {split!r}: expected cases with labels, got none")
        elif split == "train":
            problems += [f"split 'train': {problem}" for problem in unlearnable(found, task.labels)]
    if problems:
        raise ManifestError(str(manifest.path), problems)
    return study
