"""What a quick run decides before it opens a scan, and what it finds: handed from its steps to its files."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from anymc3d.data.case import Case
from anymc3d.models.store import LoadedBackbone
from anymc3d.plugins.covariates import CovariateRecord
from anymc3d.settings.config import TaskSettings
from anymc3d.train.covariates.record import Answers, Cells
from anymc3d.train.quick.crossval import NestedResult, Pool
from anymc3d.train.quick.curve import Curve
from anymc3d.train.quick.settings import QuickSettings
from anymc3d.train.study import Study


@dataclass(frozen=True)
class Plan:
    """Everything that is decided before a scan is opened. ``rows``: positions of the pool's cases in the manifest."""

    task: TaskSettings
    settings: QuickSettings
    study: Study
    rows: list[int]
    pool: Pool
    backbone: LoadedBackbone | None
    """None of a plain method."""
    notes: tuple[str, ...]
    features: tuple[str, ...] = ("class",)
    """The representations that compete."""
    structures: tuple[int, ...] = ()
    """Labels of the masks, where one of them pools over masks."""

    @property
    def cases(self) -> list[Case]:
        """The cases of the pool."""
        return [self.study.manifest.cases[row] for row in self.rows]

    def of_split(self, split: str) -> np.ndarray:
        """Positions in the pool of the cases of one split."""
        return np.array([i for i, row in enumerate(self.rows) if self.study.splits[row] == split], dtype=np.intp)


@dataclass(frozen=True, eq=False)
class CovariateFindings:
    """``cells`` of the pool's cases, their nested ``answers``, and the ``record`` of the plugin."""

    cells: list[Cells]
    answers: Answers
    record: CovariateRecord


@dataclass(frozen=True)
class Findings:
    """What was found: the nested cross-validation, the curve, the plain measurements, the choice for the plugin."""

    nested: NestedResult
    curve: Curve
    trivial: NestedResult | None
    chosen: int
    inner: np.ndarray
    """Head logits of the training split's cases, each by the choice fitted on other inner folds."""
    covariates: CovariateFindings | None = None
