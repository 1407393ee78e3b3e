"""Losses as plain functions of what is true, and the table of them.

Softmax tasks (binary with two logits, multi-class, ordinal): targets (B, 1) of class indices. Sigmoid tasks
(multi-label): targets (B, K) of 0 and 1. A missing label is NaN in the targets, takes no part and gets no gradient.
A loss returns the sum over the labels that are there together with their number, so that batches spread over
processes or accumulated one after the other average exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from anymc3d.errors import SettingError, UsageError, did_you_mean
from anymc3d.evaluate.regression.scale import NumberScale, scale_of
from anymc3d.models.zoo.objective import Answers
from anymc3d.registry import Registry, expected, takes
from anymc3d.settings.config import LabelSettings
from anymc3d.settings.training import TrainSettings


class LossSum(NamedTuple):
    """Sum of the loss over labels that are there, and how many they are; the mean is ``total / count``."""

    total: Tensor
    count: int


class TrueLabels(NamedTuple):
    """The N labels that are there. ``log_p`` (N,): log probability of what is true; ``positive`` (N,): of a yes/no
    label whether it is yes; ``column`` (N,): index of its label, 0 in softmax tasks."""

    log_p: Tensor
    positive: Tensor
    column: Tensor


def true_labels(logits: Tensor, targets: Tensor, *, softmax: bool) -> TrueLabels:
    """Logits (B, K) and targets, as the module says, to the labels that are there."""
    is_known = ~torch.isnan(targets)
    column = is_known.nonzero()[:, 1]
    chosen = targets[is_known]
    if softmax:
        log_p = logits[is_known[:, 0]].log_softmax(dim=-1).gather(-1, chosen.long().unsqueeze(-1)).squeeze(-1)
    else:
        log_p = nn.functional.logsigmoid(logits[is_known] * (chosen * 2 - 1))
    return TrueLabels(log_p, chosen == 1, column)


def focal(truth: TrueLabels, settings: TrainSettings, positive_weights: Tensor) -> Tensor:
    """L = -alpha (1 - p_t)^gamma log p_t (supplement A3; docs/method.md): (N,).

    ``focal_alpha_mode: constant``: alpha is a constant factor, as printed. ``balanced``: alpha for positives and
    1 - alpha for negatives, so alpha above 0.5 favours positives.
    """
    weight = (-torch.expm1(truth.log_p)).clamp_min(0) ** settings.focal_gamma
    if settings.focal_alpha_mode == "balanced":
        alpha = torch.where(truth.positive, settings.focal_alpha, 1 - settings.focal_alpha).to(weight.dtype)
    else:
        alpha = torch.full_like(weight, settings.focal_alpha)
    return -alpha * weight * truth.log_p


def cross_entropy(truth: TrueLabels, settings: TrainSettings, positive_weights: Tensor) -> Tensor:
    """L = -log p_t: (N,)."""
    return -truth.log_p


def weighted_bce(truth: TrueLabels, settings: TrainSettings, positive_weights: Tensor) -> Tensor:
    """L = -w log p_t with w = negatives / positives of the label in the training split for positives, else 1: (N,)."""
    return -torch.where(truth.positive, positive_weights[truth.column], 1.0).to(truth.log_p.dtype) * truth.log_p


def mse(errors: Tensor) -> Tensor:
    """Half the squared error, in units of the training cases' spread: (N,)."""
    return 0.5 * errors.square()


def huber(errors: Tensor) -> Tensor:
    """As :func:`mse` up to an error of one spread, beyond it linear: one odd label must not decide (P. Huber, 1964)."""
    size = errors.abs()
    return torch.where(size <= 1, 0.5 * errors.square(), size - 0.5)


NumberTerms = Callable[[Tensor], Tensor]
Terms = Callable[[TrueLabels, TrainSettings, Tensor], Tensor]


def _admit(name: str, terms: Any) -> Terms:
    if not takes(terms, "truth", "settings", "positive_weights"):
        raise expected("loss", name, "a function (truth, settings, positive_weights) -> (N,)", terms)
    return terms


def _admit_of_numbers(name: str, terms: Any) -> NumberTerms:
    if not takes(terms, "errors"):
        raise expected("loss of numbers", name, "a function (errors (N,)) -> (N,)", terms)
    return terms


NUMBER_LOSSES: Registry[NumberTerms] = Registry(
    "loss of numbers", {"mse": mse, "huber": huber}, group="anymc3d.number_losses", admit=_admit_of_numbers
)
"""Of labels that are numbers; the first is the default."""

LOSSES: Registry[Terms] = Registry(
    "loss",
    {"focal": focal, "cross-entropy": cross_entropy, "weighted-bce": weighted_bce},
    group="anymc3d.losses",
    admit=_admit,
)


def register_loss(name: str, terms: Terms | NumberTerms, *, numbers: bool = False) -> None:
    """Add an own loss, to be named by ``train.loss`` in a task file.

    Args:
        name: what task files call it.
        terms: of classes and yes/no labels ``(truth, settings, positive_weights)``: :class:`TrueLabels` of the N labels
            that are there, the task's ``train`` section, and a tensor that is empty here; with ``numbers``
            ``(errors (N,))``, in units of the training cases' spread. It gives one value per label, (N,), whose mean is
            the loss.
        numbers: for labels that are numbers (``kind: regression``).

    Raises:
        UsageError: the name is taken, or ``terms`` is not called like that.
    """
    table, other = (NUMBER_LOSSES, LOSSES) if numbers else (LOSSES, NUMBER_LOSSES)
    if name in other:
        raise UsageError(f"{table.kind} {name!r}: the name is taken by a {other.kind}; choose another")
    table.register(name, terms)


def _one_each(name: str, terms: Tensor, wanted: Tensor) -> Tensor:
    """A mean in place of the terms would be divided by their number once more."""
    if getattr(terms, "shape", None) != wanted.shape:
        what = f"expected one value per label {tuple(wanted.shape)}, got {tuple(getattr(terms, 'shape', ()))}"
        raise SettingError(f"train.loss: {name}: {what}")
    return terms


DEFAULT_LOSS = "focal"


def loss_name(settings: TrainSettings) -> str:
    """The loss that is asked for, or the one of the paper."""
    return DEFAULT_LOSS if settings.loss is None else settings.loss


@dataclass(frozen=True)
class Loss:
    """The loss of one task: called with logits (B, K) and targets (B, L)."""

    settings: TrainSettings
    softmax: bool
    positive_weights: tuple[float, ...] = ()
    """Of ``weighted-bce``, one per yes/no label, from the training split; otherwise none."""

    def __call__(self, logits: Tensor, targets: Tensor, weights_of_rows: Tensor | None = None) -> LossSum:
        """``weights_of_rows`` (B,): factors on the loss of each row, which the count does not see."""
        truth = true_labels(logits, targets, softmax=self.softmax)
        weights = torch.tensor(self.positive_weights, device=logits.device)
        name = loss_name(self.settings)
        terms = _one_each(name, LOSSES[name](truth, self.settings, weights), truth.log_p)
        if weights_of_rows is not None:
            terms = terms * weights_of_rows[(~torch.isnan(targets)).nonzero()[:, 0]]
        return LossSum(terms.sum(), terms.numel())

    def record(self) -> Mapping[str, Any]:
        """What a run and a plugin keep beside the settings."""
        return {"positive_weights": list(self.positive_weights)} if self.positive_weights else {}


@dataclass(frozen=True)
class NumberLoss:
    """The loss of a number: called with answers (B, 1) in units of ``scale`` and targets (B, 1) in the manifest's."""

    name: str
    scale: NumberScale

    def __call__(self, logits: Tensor, targets: Tensor, weights_of_rows: Tensor | None = None) -> LossSum:
        """``weights_of_rows`` (B,): factors on the loss of each row, which the count does not see."""
        is_known = ~torch.isnan(targets)
        wanted = (targets[is_known] - self.scale.center) / self.scale.spread
        errors = logits[is_known] - wanted.to(logits.dtype)
        terms = _one_each(self.name, NUMBER_LOSSES[self.name](errors), errors)
        if weights_of_rows is not None:
            terms = terms * weights_of_rows[is_known.nonzero()[:, 0]]
        return LossSum(terms.sum(), terms.numel())

    def record(self) -> Mapping[str, Any]:
        """What a plugin keeps beside the settings."""
        return {"loss": self.name}


def loss_of_answers(loss: Loss, answers: Answers, targets: Tensor) -> LossSum:
    """The loss of answers that are each compared with the label of their case, as far as they see the region.

    An answer that sees a part v of it costs v times the loss of the case's label and 1 - v times that of "nothing
    there"; with cross-entropy that is the loss of the label v. The count is that of the cases' labels.

    Args:
        targets: (B, L) of the batch's cases, NaN = missing.
    """
    of_rows = targets[answers.case]
    total = loss(answers.logits, of_rows, answers.weight * answers.visible).total
    if bool((answers.visible < 1).any()):
        nothing = torch.where(torch.isnan(of_rows), of_rows, 0.0)
        total = total + loss(answers.logits, nothing, answers.weight * (1 - answers.visible)).total
    return LossSum(total, int((~torch.isnan(targets)).sum()))


def make_loss(
    settings: TrainSettings, labels: LabelSettings, targets: np.ndarray, scale: NumberScale | None = None
) -> Loss | NumberLoss:
    """The loss of a task; ``targets`` (n, L) are those of the training split, NaN where missing; ``scale``: of a
    number, where it is another than theirs.

    Raises:
        UsageError: see :func:`check_loss`; or a label without both outcomes, for which no weight is defined.
    """
    check_loss(settings, labels)
    if labels.is_number:
        return NumberLoss(number_loss_name(settings), scale_of(targets) if scale is None else scale)
    softmax = labels.kind != "multilabel"
    if loss_name(settings) != "weighted-bce":
        return Loss(settings, softmax)
    return Loss(
        settings, softmax, tuple(_positive_weight(*pair) for pair in zip(labels.columns, targets.T, strict=True))
    )


def check_loss(settings: TrainSettings, labels: LabelSettings) -> None:
    """Check what needs no data.

    Raises:
        UsageError: no loss has this name, or it needs yes/no labels and the task has classes.
    """
    if labels.is_number:
        number_loss_name(settings)
        return
    name = loss_name(settings)
    if name in NUMBER_LOSSES:
        raise SettingError(
            f"train.loss: {name} is of numbers (labels.kind: regression), these are {labels.kind} labels"
        )
    LOSSES.check(name, key="train.loss", function="anymc3d.register_loss")
    balanced = name == "focal" and settings.focal_alpha_mode == "balanced"
    if labels.one_of_classes and (balanced or name == "weighted-bce"):
        what = "focal_alpha_mode: balanced" if balanced else "loss: weighted-bce"
        raise SettingError(
            f"train.{what} weighs positives against negatives, a {labels.kind} task has neither; "
            "use loss: focal (constant) or cross-entropy, with train.sampling: balanced for rare classes"
        )


def number_loss_name(settings: TrainSettings) -> str:
    """The loss of a number: what is asked for, or the squared error.

    Raises:
        UsageError: no loss of numbers has this name.
    """
    name = next(iter(NUMBER_LOSSES)) if settings.loss is None else settings.loss
    if name not in NUMBER_LOSSES:
        known = ", ".join(NUMBER_LOSSES)
        raise SettingError(f"train.loss: a number takes {known}, got {name!r}{did_you_mean(name, NUMBER_LOSSES)}")
    return name


def _positive_weight(column: str, targets: np.ndarray) -> float:
    positive, negative = int((targets == 1).sum()), int((targets == 0).sum())
    if not positive or not negative:
        raise SettingError(
            f"train.loss: weighted-bce needs both outcomes of {column!r} in the training split, "
            f"got {positive} positive and {negative} negative"
        )
    return negative / positive
