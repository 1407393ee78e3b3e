"""One eigendecomposition for the fits of all penalties, and for what each would be without each patient."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_RANK = 1e-10


def spectrum(rows: NDArray[np.floating]) -> tuple[Floats, Floats]:
    """Left singular vectors (n, r) of centred rows and squared singular values (r,), by the smaller of two Grams."""
    wide = rows.shape[1] >= rows.shape[0]
    gram = (rows @ rows.T if wide else rows.T @ rows).astype(np.float64)
    values, vectors = np.linalg.eigh(gram)
    significant = values > _RANK * max(float(values[-1]), np.finfo(np.float64).tiny)
    values, vectors = values[significant], vectors[:, significant]
    return (vectors if wide else (rows @ vectors) / np.sqrt(values)), values


def several(patients: NDArray[np.str_]) -> list[NDArray[np.intp]]:
    """The rows of each patient that has more than one."""
    _, of_row, counts = np.unique(patients, return_inverse=True, return_counts=True)
    return [np.flatnonzero(of_row == index) for index in np.flatnonzero(counts > 1)]


def left_out(
    vectors: Floats, shrunk: Floats, residuals: Floats, targets: Floats, groups: Sequence[NDArray[np.intp]]
) -> Floats:
    """Scores (n, T) of the fits without each case's patient, but for their mean, which stays that of all.

    Errors without a patient are (I - H)^-1 r over its rows. The mean of the targets would be lower without a positive
    case, so that a fit that knows nothing would rank every case against its own target: that part is put back.
    """
    count = len(vectors)
    mean = targets.mean(axis=0)
    weighted = vectors * shrunk
    leverage = 1 / count + (weighted * vectors).sum(axis=1)
    scores = targets - residuals / np.maximum(1 - leverage, 1e-9)[:, None] + (targets - mean) / max(count - 1, 1)
    for rows in groups:
        within = np.eye(len(rows)) - 1 / count - weighted[rows] @ vectors[rows].T
        errors = np.linalg.solve(within + 1e-9 * np.eye(len(rows)), residuals[rows])
        moved = (targets[rows] - mean).sum(axis=0) / max(count - len(rows), 1)
        scores[rows] = targets[rows] - errors + moved
    return scores
