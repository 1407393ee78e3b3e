"""What the labels are: classes, or a number, as asked for; in doubt the person is asked."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import get_args

import numpy as np

from anymc3d.data.covariates import number
from anymc3d.data.labels import encode, guess_labels, unlearnable
from anymc3d.data.manifest import Manifest, label_column_problems
from anymc3d.errors import ManifestError, UsageError
from anymc3d.settings.config import LabelSettings
from anymc3d.types import LabelKind

logger = logging.getLogger(__name__)

KINDS: tuple[str, ...] = get_args(LabelKind)
IN_DOUBT = 10
"""Different whole numbers above which a column may as well be a measurement as classes."""


def find_labels(manifest: Manifest, columns: Sequence[str], kind: str | None) -> LabelSettings:
    """The labels as :func:`anymc3d.data.labels.guess_labels` takes them, or as ``kind`` says.

    Raises:
        ManifestError: a column is absent, cannot be used, or does not hold numbers.
        UsageError: ``kind`` does not fit the columns, or it has to be said.
    """
    if kind is not None and kind not in KINDS:
        raise UsageError(f"--kind: expected one of {', '.join(KINDS)}, got {kind!r}")
    if kind == "regression":
        return _number(manifest, columns)
    labels, _ = guess_labels(manifest, columns)
    if kind == "ordinal" and labels.kind == "multiclass":
        return LabelSettings(columns=labels.columns, kind="ordinal", classes=labels.classes)
    if kind is not None and kind != labels.kind:
        raise UsageError(f"--kind {kind}: {', '.join(columns)} is {labels.kind}; leave --kind out")
    if labels.is_number:
        logger.info("%s holds a measurement: predicted as a number (--kind regression)", columns[0])
    elif kind is None and _may_be_number(labels):
        raise UsageError(
            f"{columns[0]} has {len(labels.classes)} different numbers: say --kind regression if it is a measurement, "
            "--kind multiclass (or ordinal, of grades) if each is a class of its own"
        )
    return labels


def _number(manifest: Manifest, columns: Sequence[str]) -> LabelSettings:
    if len(columns) != 1:
        raise UsageError(f"--kind regression: expected one label column, got {len(columns)}")
    problems = label_column_problems(manifest.columns, columns)
    if problems:
        raise ManifestError(str(manifest.path), problems)
    labels = LabelSettings(columns=tuple(columns), kind="regression")
    cases = [case for case in manifest.cases if case.split != "test"]
    targets = encode(cases, labels)
    problems = unlearnable(targets, labels)
    if problems:
        raise ManifestError(str(manifest.path), problems)
    if len(np.unique(targets[~np.isnan(targets)])) == 2:
        raise UsageError(f"--kind regression: {columns[0]} has two values only; leave --kind out")
    return labels


def _may_be_number(labels: LabelSettings) -> bool:
    return len(labels.classes) > IN_DOUBT and all(number(name) is not None for name in labels.classes)
