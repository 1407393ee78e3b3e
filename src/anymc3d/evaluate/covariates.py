"""Covariates and the image in one answer: a small model, linear in the logits of both, and each of them alone.

``alone``: logistic regression on the covariates. ``both``: the raw logits of the image and of the covariates, each with
a slope of 0 or more, and a shift; of several classes the slopes are common and each class has its shift. The image's
own logit is that of the same plugin without covariates, so that what they add can be measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from anymc3d.errors import CovariatesError
from anymc3d.settings.config import MAX_LABELS
from anymc3d.settings.limits import Between, Count, Length

MAX_NUMBERS = 1000
IMAGE, COVARIATES = "image", "covariates"
"""What the parts of an answer are called: ``image.<label>`` and ``covariates.<label>`` in ``predictions.csv``."""
PARTS = (IMAGE, COVARIATES)
SAYS = {IMAGE: "image alone", COVARIATES: "covariates alone"}

Floats = NDArray[np.float64]
Weight = Annotated[float, Between(-1e9, 1e9)]
Slope = Annotated[float, Between(0, 1e9)]
Row = Annotated[tuple[Weight, ...], Length(MAX_NUMBERS)]
PerLabel = Annotated[tuple[Weight, ...], Length(MAX_LABELS)]
Slopes = Annotated[tuple[Slope, ...], Length(MAX_LABELS)]


@dataclass(frozen=True, kw_only=True)
class CovariateModel:
    """In the card of a plugin. One row, bias and shift per label; ``image`` and ``alone`` slopes per label, or one for
    all classes."""

    weights: Annotated[tuple[Row, ...], Length(MAX_LABELS)]
    bias: PerLabel
    image: Slopes
    covariates: Slopes
    shift: PerLabel
    strength: Annotated[float, Between(1e-9, 1e9)] = 1.0
    """C of the logistic regression on the covariates, chosen by cross-validation inside the training cases."""
    cases: Count = 0
    """Training cases of the covariates alone."""
    joined_on: Count = 0
    """Cases whose image logits the slopes were fitted on; the plugin was not trained on them."""

    def __post_init__(self) -> None:
        labels = len(self.bias)
        sizes = {len(self.weights), len(self.shift)}
        slopes = {len(self.image), len(self.covariates)}
        widths = {len(row) for row in self.weights}
        if sizes != {labels} or not slopes <= {1, labels} or len(slopes) > 1 or len(widths) > 1 or not labels:
            raise CovariatesError(f"covariates: expected weights, slopes and shifts of as many labels, got {sizes}")

    @property
    def width(self) -> int:
        """F."""
        return len(self.weights[0])

    def alone(self, numbers: Floats) -> Floats:
        """Numbers (n, F) -> raw logits (n, labels) of the covariates alone."""
        return np.asarray(numbers, dtype=np.float64) @ np.array(self.weights).T + np.array(self.bias)

    def both(self, image: Floats, alone: Floats) -> Floats:
        """Raw logits (n, labels) of either -> those of both."""
        return np.array(self.image) * image + np.array(self.covariates) * alone + np.array(self.shift)
