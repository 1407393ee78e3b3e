"""Train, val and test by patient, stratified on the labels, the same for any order of the rows.

Iterative stratification (Sechidis, Tsoumakas and Vlahavas, ECML PKDD 2011) over patients instead of cases: the rarest
class is dealt out first, each patient to the split that is furthest from its share of that class.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from anymc3d.data.case import SPLITS, Case
from anymc3d.data.patients import patients_of
from anymc3d.errors import ManifestError, UsageError


def assign_splits(
    cases: Sequence[Case], targets: ArrayLike, *, fractions: tuple[float, float, float], seed: int
) -> list[str]:
    """The split of each case: the manifest's own where it has one, otherwise :func:`make_splits`.

    Args:
        cases: in any order.
        targets: (n, L) as :func:`anymc3d.data.labels.encode` returns them, NaN where missing.
        fractions: train, val, test.
        seed: of the split, not of the training.

    Raises:
        ManifestError: a patient is in two splits, or only some cases have a split.
    """
    splits = [case.split for case in cases if case.split is not None]
    if not splits:
        return make_splits(patients_of(cases), targets, fractions=fractions, seed=seed)
    problems = [f"row {case.row}: split is empty, other rows have one" for case in cases if case.split is None]
    if problems:
        raise ManifestError("splits", problems)
    check_no_leak(patients_of(cases), splits)
    return splits


def make_splits(
    patients: Sequence[str], strata: ArrayLike, *, fractions: tuple[float, float, float], seed: int
) -> list[str]:
    """Deal the patients out to train, val and test, and return the split of each row.

    Every class of every label column (``strata``: (n,) or (n, L), NaN where missing) has about the same share in each
    split, and stands in each one where enough patients have it: train first, then val, then test.

    Raises:
        UsageError: ``strata`` has another number of rows than ``patients``, or there are no rows.
    """
    return [SPLITS[part] for part in _deal_rows(patients, strata, fractions, seed)]


def make_folds(patients: Sequence[str], strata: ArrayLike, *, folds: int, seed: int) -> list[int]:
    """Deal the patients out to ``folds`` parts of equal size, as :func:`make_splits` does; the part of each row.

    Raises:
        UsageError: fewer patients than folds, fewer than two folds, or as :func:`make_splits`.
    """
    num_patients = len(set(patients))
    if not 2 <= folds <= num_patients:
        raise UsageError(f"expected 2 folds up to one per patient, which are {num_patients}; got {folds}")
    return _deal_rows(patients, strata, (1 / folds,) * folds, seed)


def check_no_leak(patients: Sequence[str], splits: Sequence[str]) -> None:
    """Refuse a patient in two splits: results would then measure memory, not skill.

    Raises:
        ManifestError: with one line per such patient.
    """
    splits_of: dict[str, set[str]] = defaultdict(set)
    for patient, split in zip(patients, splits, strict=True):
        splits_of[patient].add(split)
    problems = [
        f"patient {patient!r} is in {len(names)} splits ({', '.join(sorted(names))}); keep it in one"
        for patient, names in splits_of.items()
        if len(names) > 1
    ]
    if problems:
        raise ManifestError("splits", problems)


def split_hash(case_ids: Iterable[str], salt: str) -> str:
    """Sha256 (hex) of a set of case ids, in any order; it shows that two lists are one and reveals no id."""
    digest = hashlib.sha256(salt.encode())
    for case_id in sorted(case_ids):
        # The length in front keeps ("ab", "c") and ("a", "bc") apart.
        encoded = case_id.encode()
        digest.update(len(encoded).to_bytes(4, "big") + encoded)
    return digest.hexdigest()


def _deal_rows(patients: Sequence[str], strata: ArrayLike, fractions: Sequence[float], seed: int) -> list[int]:
    """The part of each row, all rows of a patient in one."""
    table = np.asarray(strata, dtype=np.float64)
    if not len(patients) or len(table) != len(patients):
        raise UsageError(f"expected cases, each with a row of labels; got {len(table)} rows for {len(patients)} cases")
    names, rows = np.unique(np.asarray(patients, dtype=object).astype(str), return_inverse=True)
    counts = _counts(table.reshape(len(rows), -1), rows, len(names))
    chosen = _deal(counts, np.asarray(fractions, dtype=np.float64), _order(names, counts, seed))
    return [int(chosen[row]) for row in rows]


def _counts(table: NDArray[np.float64], rows: NDArray[np.intp], num_patients: int) -> NDArray[np.float64]:
    """(patients, 1 + classes): how many cases a patient has, then how many of each class of each column."""
    tags = [np.ones(len(table), dtype=bool)]
    for column in table.T:
        tags += [column == value for value in np.unique(column[~np.isnan(column)])]
    return np.stack([np.bincount(rows, weights=tag, minlength=num_patients) for tag in tags], axis=1)


def _order(names: NDArray[np.str_], counts: NDArray[np.float64], seed: int) -> list[int]:
    """Patients with many cases first, they are the hardest to place; otherwise by a hash of seed and id."""
    keys = [hashlib.sha256(f"{seed}\x00{name}".encode()).digest() for name in names]
    return sorted(range(len(names)), key=lambda patient: (-counts[patient, 0], keys[patient]))


def _deal(counts: NDArray[np.float64], fractions: NDArray[np.float64], order: list[int]) -> NDArray[np.intp]:
    """The split (0, 1, 2) of each patient."""
    chosen = np.full(len(counts), -1, dtype=np.intp)
    wanted = fractions[:, None] * counts.sum(axis=0)[None, :]
    holders = np.zeros(wanted.shape, dtype=np.intp)
    order_array = np.asarray(order)
    while (chosen < 0).any():
        open_patients = order_array[chosen[order_array] < 0]
        remaining = (counts[open_patients, 1:] > 0).sum(axis=0)
        # Column 0 (all cases) comes last: it is for patients without any label.
        tag = 1 + int(np.argmin(np.where(remaining > 0, remaining, np.inf))) if remaining.any() else 0
        waiting = open_patients[counts[open_patients, tag] > 0]
        for position, patient in enumerate(waiting):
            split = _neediest(wanted, holders, tag, fractions, len(waiting) - position, len(open_patients) - position)
            chosen[patient] = split
            wanted[split] -= counts[patient]
            holders[split] += counts[patient] > 0
    return chosen


def _neediest(
    wanted: NDArray[np.float64],
    holders: NDArray[np.intp],
    tag: int,
    fractions: NDArray[np.float64],
    num_left: int,
    num_open: int,
) -> int:
    """The part for the next patient; ``num_left`` of the waiting with this tag, ``num_open`` of all."""
    # Many labels on few patients could spend them all before every part has one.
    empty = [split for split in range(len(fractions)) if fractions[split] > 0 and not holders[split, 0]]
    if empty and num_open <= len(empty):
        return empty[0]
    lacking = [split for split in range(len(fractions)) if fractions[split] > 0 and holders[split, tag] == 0]
    if lacking and num_left <= len(lacking):
        return lacking[0]
    usable = [split for split in range(len(fractions)) if fractions[split] > 0]
    return max(usable, key=lambda split: (wanted[split, tag], wanted[split, 0], -split))
