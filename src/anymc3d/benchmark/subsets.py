"""Some of the cases of a split: whole patients, stratified, the same for every method, smaller ones within larger.

Patients are put in one order in which every beginning holds the same share of every kind of patient, so 20 % of the
training cases are part of 40 % of them. The order depends on seed, patient ids and labels alone.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from anymc3d.errors import UsageError


def choose_cases(patients: Sequence[str], targets: np.ndarray, wanted: int | float | str, *, seed: int) -> list[int]:
    """Positions, in ascending order, of the chosen cases.

    Args:
        patients: (n,) of the cases.
        targets: (n, L) with NaN where missing.
        wanted: a number of cases (patients that would go beyond it are skipped), a share above 0 to 1, or ``all``.
        seed: of the order.

    Raises:
        UsageError: more cases than there are, or so few that no patient fits.
    """
    total = len(patients)
    number = total if wanted == "all" else round(wanted * total) if isinstance(wanted, float) else wanted
    assert isinstance(number, int)
    if number > total:
        raise UsageError(f"expected at most the {total} cases there are, got {number}")
    members: dict[str, list[int]] = defaultdict(list)
    for index, patient in enumerate(patients):
        members[patient].append(index)
    chosen: list[int] = []
    for patient in _order(members, targets, seed):
        if len(chosen) + len(members[patient]) <= number:
            chosen += members[patient]
    if not chosen:
        raise UsageError(f"{wanted} of {total} cases are less than one patient")
    return sorted(chosen)


def _order(members: dict[str, list[int]], targets: np.ndarray, seed: int) -> list[str]:
    """Systematic sampling: the i-th of the n patients of a kind stands at (i + u) / n, u drawn once per kind."""
    kinds: dict[str, list[str]] = defaultdict(list)
    for patient, rows in members.items():
        kinds[str(sorted({str(targets[row].tolist()) for row in rows}))].append(patient)
    places: dict[str, float] = {}
    for kind, patients in kinds.items():
        offset = _uniform(seed, "kind", kind)
        for rank, patient in enumerate(sorted(patients, key=lambda name: _uniform(seed, "patient", name))):
            places[patient] = (rank + offset) / len(patients)
    return sorted(places, key=lambda patient: (places[patient], patient))


def _uniform(seed: int, what: str, name: str) -> float:
    digest = hashlib.sha256(f"{seed}\x00{what}\x00{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
