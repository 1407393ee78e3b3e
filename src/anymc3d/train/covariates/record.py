"""From the cells of a study to the covariates of its plugin; the same steps whatever made the image's logits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from anymc3d.data.cache import Cache
from anymc3d.data.case import Case
from anymc3d.data.case_scans import CaseScans, PreparedCase
from anymc3d.data.covariate_cells import covariate_cells
from anymc3d.data.covariates import MEASURE, Covariate, fit_covariates, matrix_of
from anymc3d.data.measures.case import MEASURES_VERSION
from anymc3d.data.measures.measure_cache import measured
from anymc3d.errors import ManifestError, ScanError
from anymc3d.plugins.covariates import CovariateRecord
from anymc3d.settings.config import LabelSettings, TaskSettings
from anymc3d.train.covariates.fit import AloneFit, join

Floats = NDArray[np.float64]
Cells = Mapping[str, str]


@dataclass(frozen=True, eq=False)
class Answers:
    """Raw logits (n, labels) of some cases."""

    both: Floats
    image: Floats
    alone: Floats


class TrainedCovariates:
    """The covariates alone, fitted on the training cases, before they are joined with an image.

    Args:
        names: of the task file.
        cells: of the training cases.
        targets: (n, L) of these.
        labels: of the task.
        patients: (n,), of these cases.
        seed: of the folds that choose the penalty.

    Raises:
        ManifestError: a cell that cannot be used.
    """

    def __init__(
        self,
        names: Sequence[str],
        cells: Sequence[Cells],
        targets: Floats,
        labels: LabelSettings,
        patients: Sequence[str],
        *,
        seed: int,
    ) -> None:
        self.names, self.labels, self.targets = tuple(names), labels, targets
        self.columns: tuple[Covariate, ...] = fit_covariates(names, cells)
        self._numbers = self._matrix(cells)
        self._fit = AloneFit(self._numbers, targets, labels, patients, seed=seed)

    def alone(self, cells: Sequence[Cells]) -> Floats:
        """Raw logits (n, labels) of the covariates of other cases."""
        return self._matrix(cells) @ self._fit.weights.T + self._fit.bias

    def held_out(self) -> Floats:
        """Raw logits (n, labels) of each training case by a fit without its fold; where an outcome has too few patients
        for folds, by the fit on all."""
        by_others = self._fit.held_out
        return np.where(np.isnan(by_others), self._numbers @ self._fit.weights.T + self._fit.bias, by_others)

    def joined_held_out(self, image: Floats) -> CovariateRecord:
        """Joined on the training cases; ``image``: raw logits (n, labels) of each by a fit that never saw it."""
        return self._record(image, self.held_out(), self.targets)

    def level_held_out(self, image: Floats) -> Answers:
        """The three answers for the training cases, each with slopes and a shift of its own, fitted on them: so they
        differ in what they see, and not in how well their logits are scaled."""
        own = self.held_out()
        seen = {"both": (image, own), "image": (image, np.zeros_like(own)), "alone": (np.zeros_like(image), own)}
        return Answers(
            **{what: join(self._fit, *parts, self.targets, self.labels).both(*parts) for what, parts in seen.items()}
        )

    def joined_on(self, image: Floats, cells: Sequence[Cells], targets: Floats) -> CovariateRecord:
        """Joined on other cases, on which the image was not trained."""
        return self._record(image, self.alone(cells), targets)

    def _matrix(self, cells: Sequence[Cells]) -> Floats:
        try:
            return matrix_of(self.columns, cells)
        except ScanError as error:
            raise ManifestError("covariates", [error.what]) from None

    def _record(self, image: Floats, clinical: Floats, targets: Floats) -> CovariateRecord:
        version = MEASURES_VERSION if any(name.startswith(MEASURE) for name in self.names) else 0
        model = join(self._fit, image, clinical, targets, self.labels)
        return CovariateRecord(columns=self.columns, model=model, measures_version=version)


def answers_of(record: CovariateRecord, image: Floats, cells: Sequence[Cells]) -> Answers:
    """What a plugin with covariates answers; ``image``: raw logits (n, labels)."""
    alone = record.model.alone(matrix_of(record.columns, cells))
    return Answers(record.model.both(image, alone), image, alone)


def cells_of_cases(
    task: TaskSettings, cases: Sequence[Case], prepared: Sequence[PreparedCase] = (), cache: Cache | None = None
) -> list[Cells]:
    """The cells that hold the covariates of some cases; measures are kept between runs.

    Raises:
        ManifestError: scans that cannot be measured, each with its reason.
    """
    if not any(name.startswith(MEASURE) for name in task.covariates):
        return [case.cells for case in cases]
    cells: list[Cells] = []
    problems = []
    measure = partial(covariate_cells, task.covariates, modality=task.data.modality, measure=measured)
    for number, case in enumerate(cases):
        try:
            cells.append(measure(CaseScans(case, cache, prepared[number].hashes if prepared else None)))
        except ScanError as error:
            problems.append(f"case {case.id!r}: {error}")
    if problems:
        raise ManifestError("scans whose covariates cannot be measured", problems)
    return cells
