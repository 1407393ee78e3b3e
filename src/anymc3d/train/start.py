"""What a method starts from: a frozen backbone, or the weights of a network of the zoo, published or random."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, replace
from typing import Any

from torch import Tensor

from anymc3d.errors import BackboneError
from anymc3d.models.backbones import family_normalisation
from anymc3d.models.baseline import BaselineClassifier
from anymc3d.models.build import is_baseline
from anymc3d.models.store import LoadedBackbone, find_backbone
from anymc3d.models.zoo.entry import SCRATCH
from anymc3d.models.zoo.table import zoo_entry
from anymc3d.models.zoo.weights import RANDOM, LoadedNetworkWeights, find_network_weights, start_from
from anymc3d.settings.config import TaskSettings
from anymc3d.settings.plain import to_plain
from anymc3d.settings.starts import PAPER, filled
from anymc3d.settings.training import TrainSettings
from anymc3d.train.losses import number_loss_name
from anymc3d.train.trunk_tokens import COPIES

logger = logging.getLogger(__name__)

ENCODER_IS_BACKBONE = ("mst", "mst-positions")
"""Networks whose encoder starts from the backbone the task file names, and is trained."""
MASK_WEIGHT = 1.0
"""Lambda of AnyMC3D's decoders (docs/method.md)."""
UNUSED = frozenset({"encoder.mask_token"})
"""Tensors of pretraining, which a backbone here does not keep and no answer depends on."""


@dataclass(frozen=True)
class Start:
    """``backbone`` of AnyMC3D, or ``weights`` of a network; a network that starts from random values has neither."""

    backbone: LoadedBackbone | None
    weights: LoadedNetworkWeights | None

    def record(self, task: TaskSettings) -> dict[str, Any]:
        """What must be equal for a second command to be the same run."""
        if self.backbone is not None:
            known = {"fingerprint": self.backbone.fingerprint, "positions": task.backbone.positions}
            return known | _own_normalisation(self.backbone)
        entry = zoo_entry(task.method.name)
        raised = {"objective": entry.recipe.objective, "network_revision": entry.revision}
        return {"start_weights": self.fingerprint} | {key: value for key, value in raised.items() if value > 1}

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the weights a network starts from."""
        return RANDOM if self.weights is None else self.weights.fingerprint

    def fill(self, classifier: BaselineClassifier) -> None:
        """Put the weights into the network of every view, and say which parts keep their initial values.

        Raises:
            BackboneError: they are another network's.
        """
        if self.weights is None:
            return
        name = classifier.entry.name
        for network in classifier.networks.values():
            fresh = start_from(network, self.weights, name)
        rest = f"; initial values: {', '.join(fresh)}" if fresh else ""
        logger.info("%s starts from %s (%s)%s", name, self.weights.source, self.weights.fingerprint, rest)


def _own_normalisation(backbone: LoadedBackbone) -> dict[str, Any]:
    """Mean and standard deviation where they are not those of the backbone's family: the weights do not say them."""
    card = backbone.card
    usual = family_normalisation(card.family)
    return {} if (card.mean, card.std) == usual else {"mean": list(card.mean), "std": list(card.std)}


def find_start(task: TaskSettings) -> Start:
    """Load what the task's method starts from.

    Raises:
        BackboneError: it is not on this machine; the message says how to get it.
    """
    method = task.method
    if not is_baseline(method):
        return Start(find_backbone(task.backbone.name, position_rule=task.backbone.positions), None)
    if method.weights == RANDOM or (method.weights is None and zoo_entry(method.name).weights == SCRATCH):
        return Start(None, None)
    if method.weights is None and method.name in ENCODER_IS_BACKBONE:
        return Start(None, _from_backbone(task))
    return Start(None, find_network_weights(method.name, method.weights))


def _from_backbone(task: TaskSettings) -> LoadedNetworkWeights:
    try:
        loaded = find_backbone(task.backbone.name, position_rule=task.backbone.positions)
    except BackboneError as error:
        message = f"method {task.method.name} starts from the backbone: {error}; or train from random values with "
        raise BackboneError(f"{message}method.weights=random") from None
    tensors: dict[str, Tensor] = {f"encoder.{name}": tensor for name, tensor in loaded.module.state_dict().items()}
    return LoadedNetworkWeights(tensors, loaded.fingerprint, loaded.source, fresh=UNUSED)


def settings_of_run(task: TaskSettings) -> dict[str, Any]:
    """The settings that must be equal for a second command to be the same run, wherever its manifest lies by now."""
    plain = to_plain(replace(task, data=replace(task.data, manifest="")))
    if plain["segmentation"]["weight"] is None:
        plain["segmentation"]["weight"] = MASK_WEIGHT  # as it was called before null meant it
    plain["train"] = _without_start_keys(task)
    if plain["method"]["blocks"] is None:
        del plain["method"]["blocks"], plain["train"]["copies"]  # as runs before there was a choice have it
    del plain["train"]["token_cache_gb"]  # changes no result
    if not plain["covariates"]:
        del plain["covariates"]  # as runs before there was a choice have it
    if plain["features"] == TaskSettings.features:
        del plain["features"]  # as runs before there was a choice have it
    return plain


def _without_start_keys(task: TaskSettings) -> dict[str, Any]:
    """The ``train`` section as older runs recorded it: rates as numbers, and no key of the start where all are the
    paper's."""
    defaults = filled(task.train, PAPER if is_baseline(task.method) else None)
    plain, new = asdict(task.train), ("start", "standardise", "warmup", "clip", "trained_share")
    plain |= {key: getattr(defaults, key) for key in ("lora_lr", "head_lr", *new)}
    usual = filled(TrainSettings())
    if all(plain[key] == getattr(usual, key) for key in new):
        for key in new:
            del plain[key]
    return plain


def _copies(task: TaskSettings) -> int | None:
    """``train.copies`` with its null filled in, where there is a trunk."""
    if task.train.copies is not None or task.method.blocks is None:
        return task.train.copies
    return 0 if task.segmentation.is_on else COPIES


def with_recipe(task: TaskSettings) -> TaskSettings:
    """The task with every null of ``train`` and ``segmentation`` that the method's recipe answers filled in."""
    train, masks = task.train, task.segmentation
    if task.labels.is_number and train.loss is None:
        train = replace(train, loss=number_loss_name(train))
    if not is_baseline(task.method):
        if masks.is_on:
            masks = replace(masks, weight=MASK_WEIGHT if masks.weight is None else masks.weight)
            if train.start != PAPER and masks.lr is None:
                # A decoder starts from random values whatever the head starts from: it keeps the paper's rate.
                masks = replace(masks, lr=filled(train, PAPER).head_lr)
        return replace(task, train=replace(filled(train), copies=_copies(task)), segmentation=masks)
    recipe = zoo_entry(task.method.name).recipe
    masks = replace(masks, weight=recipe.mask_weight if masks.is_on and masks.weight is None else masks.weight)
    filled_in = replace(
        train,
        loss=recipe.loss if train.loss is None else train.loss,
        lr=recipe.lr if train.lr is None else train.lr,
        weight_decay=recipe.weight_decay if train.weight_decay is None else train.weight_decay,
    )
    return replace(task, train=filled(filled_in, PAPER), segmentation=masks)
