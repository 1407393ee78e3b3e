"""What a plugin's card says of its covariates: how cells become numbers, and how these answer beside the image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import numpy as np
from numpy.typing import NDArray

from anymc3d.data.covariates import Covariate, numbers_of
from anymc3d.errors import CovariatesError
from anymc3d.evaluate.covariates import CovariateModel
from anymc3d.settings.config import MAX_COVARIATES
from anymc3d.settings.limits import Between, Length

Floats = NDArray[np.float64]


class JoinedLogits(NamedTuple):
    """Raw logits (labels,) of one case: of both, of the image and of the covariates alone; and what there is to say."""

    both: Floats
    image: Floats
    alone: Floats
    notes: list[str]


@dataclass(frozen=True, kw_only=True)
class CovariateRecord:
    """The covariates of a plugin, fitted on its training cases."""

    columns: Annotated[tuple[Covariate, ...], Length(MAX_COVARIATES)]
    model: CovariateModel
    measures_version: Annotated[int, Between(0, 10**6)] = 0
    """Of the code that measures, where a covariate is a measure."""

    def __post_init__(self) -> None:
        width = sum(column.width for column in self.columns)
        if width != self.model.width or not self.columns:
            raise CovariatesError(f"columns: expected {self.model.width} numbers for the weights, got {width}")

    @property
    def names(self) -> tuple[str, ...]:
        """Of the columns."""
        return tuple(column.name for column in self.columns)

    def joined(self, image: Floats, cells: Mapping[str, str]) -> JoinedLogits:
        """The answer to one case; ``image``: raw logits (labels,).

        Raises:
            ScanError: a cell holds no number where one is expected.
        """
        numbers, notes = numbers_of(self.columns, cells)
        alone = self.model.alone(numbers[None])[0]
        return JoinedLogits(self.model.both(image[None], alone[None])[0], image, alone, notes)

    def check_fits(self, num_labels: int, *, one_of_classes: bool) -> None:
        """Check that the model answers so many labels.

        Raises:
            UsageError: it answers others.
        """
        slopes = 1 if one_of_classes else num_labels
        sizes = (len(self.model.bias), len(self.model.image))
        if sizes != (num_labels, slopes):
            raise CovariatesError(f"covariates: expected {num_labels} labels with {slopes} slopes, got {sizes}")


def in_words(covariate: Covariate) -> str:
    """One covariate for people."""
    missing = f", {covariate.missing} missing" if covariate.missing else ""
    if covariate.kind == "category":
        return f"{covariate.name} ({', '.join(covariate.levels)}{missing})"
    return f"{covariate.name} ({covariate.low:g} to {covariate.high:g}, mean {covariate.center:.4g}{missing})"
