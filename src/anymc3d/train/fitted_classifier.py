"""A classifier that was fitted in closed form, without training steps: its tensors and its answers.

Frozen heads and plain methods both come to this; the record and the files are made of it in one way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anymc3d.data.measures.case import MEASURES_VERSION
from anymc3d.models.classifier import VolumeClassifier
from anymc3d.models.features import representation
from anymc3d.models.plain import PlainClassifier, cut_parameters
from anymc3d.plugins import stored, to_half
from anymc3d.plugins.card import PlainRecord
from anymc3d.settings.config import TaskSettings
from anymc3d.train.plain.numbers import PlainNumbers
from anymc3d.train.quick.heads import Tokens
from anymc3d.train.ridge.learner import LinearHead, RidgeLearner

Rows = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class FittedClassifier:
    """``task``: with the method, fusion and representation that were fitted; ``tensors``: of the plugin; ``more``:
    other keys of its card; ``recipe``: how it was fitted; ``logits``: of cases (len(rows), K), as the file answers."""

    task: TaskSettings
    tensors: Mapping[str, Tensor]
    logits: Callable[[Rows], NDArray[np.float64]]
    recipe: Mapping[str, Any] = field(default_factory=dict)
    more: Mapping[str, Any] = field(default_factory=dict)


def fitted_frozen(
    task: TaskSettings,
    classifier: VolumeClassifier,
    tokens: Tokens,
    tensors: Mapping[str, Tensor],
    recipe: Mapping[str, Any],
    structures: tuple[int, ...] = (),
) -> FittedClassifier:
    """A head on frozen embeddings. ``classifier``: with its shapes; its values are replaced."""
    classifier.load_tensors({name: tensor.float() for name, tensor in to_half(tensors).items()})

    def logits(rows: Rows) -> NDArray[np.float64]:
        batch = tokens.rows(rows)
        packed = {name: padded[mask] for name, (padded, mask) in batch.views.items()}
        counts = {name: tuple(mask.sum(dim=1).tolist()) for name, (_, mask) in batch.views.items()}
        with torch.inference_mode():
            return classifier.eval().fuse(packed, counts).logits.double().numpy()

    more = {"structures": structures} if representation(task.features).needs_mask else {}
    return FittedClassifier(task, tensors, logits, recipe, more)


def fitted_plain(task: TaskSettings, learner: RidgeLearner, numbers: PlainNumbers, train: Rows) -> FittedClassifier:
    """A plain method, fitted on the cases ``train``."""
    head = learner.head(train)
    tensors = {
        "numbers.center": torch.from_numpy(head.center).float(),
        "numbers.spread": torch.from_numpy(head.spread).float(),
        **head_tensors(head, raw=False),
    }
    classifier = PlainClassifier(numbers.values.shape[1], common=not numbers.names, clip=head.clip, labels=task.labels)
    classifier.load_tensors(stored(tensors, whole=True))

    def logits(rows: Rows) -> NDArray[np.float64]:
        with torch.inference_mode():
            return classifier(torch.from_numpy(numbers.values[rows])).logits.double().numpy()

    record = PlainRecord(measures=numbers.names, version=MEASURES_VERSION if numbers.names else 0, clip=head.clip)
    recipe = {
        "recipe": "closed form",
        "penalty": learner.penalty(train),
        "chosen_by": "cross-entropy without a patient",
    }
    return FittedClassifier(task, tensors, logits, recipe, {"plain": record, "structures": numbers.structures})


def head_tensors(head: LinearHead, *, raw: bool) -> dict[str, Tensor]:
    """The tensors of a plugin's head: of standardised numbers, or of ``raw`` ones."""
    weight, bias = head.raw() if raw else (head.weight, head.bias)
    tensors = {"head.weight": torch.from_numpy(weight)}
    if head.cuts is not None:
        return tensors | {"head.cuts": cut_parameters(torch.from_numpy(head.cuts - bias[0]))}
    return tensors | {"head.bias": torch.from_numpy(bias)}
