"""Which cases a study is of, in which groups, and what it is asked to report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from anymc3d.errors import UsageError, did_you_mean
from anymc3d.evaluate.measures import Sampling
from anymc3d.evaluate.study_rows import ALL

MAX_GROUP_VALUES = 20


@dataclass(frozen=True, kw_only=True)
class StudySettings:
    """What to report."""

    groups: tuple[str, ...] = ()
    """Manifest columns whose values become subgroups."""
    operating_points: tuple[str, ...] | None = None
    """Criteria chosen on ``val``; None: Youden's J where there are ``val`` predictions, nothing where not."""
    severity: tuple[str, ...] = ()
    """Grade columns (``COLUMN`` or ``LABEL=COLUMN``) to read the labels by; see :mod:`anymc3d.evaluate.severity`."""
    sampling: Sampling = field(default_factory=Sampling)


def choose_rows(manifest: Sequence[Mapping[str, str]]) -> tuple[str, NDArray[np.intp], NDArray[np.intp]]:
    """Return the evaluated split, its rows, and the rows on which thresholds may be chosen."""
    if not manifest:
        raise UsageError("the manifest has no rows")
    splits = np.array([row.get("split", "") for row in manifest])
    names = sorted(set(splits) - {""})
    if not names:
        return ALL, np.arange(len(manifest)), np.array([], dtype=np.intp)
    if "test" in names:
        return "test", np.flatnonzero(splits == "test"), np.flatnonzero(splits == "val")
    if len(names) == 1:
        return names[0], np.flatnonzero(splits == names[0]), np.array([], dtype=np.intp)
    raise UsageError(
        f"the manifest has a split column with {', '.join(names)} but no test rows, and results are of the test rows; "
        "give a manifest with test rows, or one without the split column to evaluate all of it"
    )


def check_groups(groups: Sequence[str], manifest: Sequence[Mapping[str, str]]) -> None:
    for column in groups:
        if column not in manifest[0]:
            raise UsageError(f"the manifest has no column {column!r} to group by{did_you_mean(column, manifest[0])}")
        num_values = len({row[column] for row in manifest})
        if num_values > MAX_GROUP_VALUES:
            msg = f"column {column!r} has {num_values} different values, at most {MAX_GROUP_VALUES} make groups"
            raise UsageError(f"{msg}; add a column of ranges, for instance {column}_group")


@dataclass(frozen=True)
class StudyCases:
    """The rows of the manifest: which are evaluated, on which thresholds may be chosen, and whose they are."""

    manifest: Sequence[Mapping[str, str]]
    split: str
    evaluated: NDArray[np.intp]
    for_thresholds: NDArray[np.intp]
    patients: NDArray[np.object_]


def groups_of(
    manifest: Sequence[Mapping[str, str]], evaluated: NDArray[np.intp], columns: Sequence[str]
) -> Iterator[tuple[str, NDArray[np.intp]]]:
    """Yield (group name, its evaluated rows): ``all``, then ``<column>=<value>``; an empty cell is ``(missing)``."""
    yield ALL, evaluated
    for column in columns:
        values = np.array([manifest[row][column] for row in evaluated], dtype=object)
        for value in sorted(set(values), key=lambda text: (text == "", len(text) if text.isdigit() else 0, text)):
            yield f"{column}={value or '(missing)'}", evaluated[values == value]
