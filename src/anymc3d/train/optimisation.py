"""The parameter groups and the optimiser of each method, the learning rate over a run, and the length of a step."""

from __future__ import annotations

import math

import torch
from torch import nn

from anymc3d.models.baseline import BaselineClassifier
from anymc3d.models.build import Classifier
from anymc3d.models.zoo.recipe import Recipe
from anymc3d.settings.starts import filled
from anymc3d.settings.training import TrainSettings


def build_optimizer(
    classifier: Classifier, settings: TrainSettings, decoder_lr: float | None = None
) -> torch.optim.Optimizer:
    """AnyMC3D: AdamW in the groups of the paper (supplement A3), LoRA, queries + head, and decoders (as the head, or
    with their own lr); the rates are the start's, where they are not set (the paper: 1e-4 and 1e-3, weight decay 1e-5
    and 1e-4). A network of the zoo: what its recipe says, at ``train.lr``; so is what learns from masks beside it, or
    with its own lr."""
    if isinstance(classifier, BaselineClassifier):
        return _of_recipe(classifier, settings, decoder_lr)
    settings = filled(settings)
    lora = [p for name, p in classifier.named_parameters() if name.startswith("lora.")]
    decoder = list(classifier.decoder.parameters())
    rest = [p for name, p in classifier.named_parameters() if not name.startswith(("lora.", "decoder."))]
    decoder_lr = settings.head_lr if decoder_lr is None else decoder_lr
    groups = [
        {"params": lora, "base_lr": settings.lora_lr, "weight_decay": settings.lora_weight_decay},
        {"params": rest, "base_lr": settings.head_lr, "weight_decay": settings.head_weight_decay},
        {"params": decoder, "base_lr": decoder_lr, "weight_decay": settings.head_weight_decay},
    ]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=0.0, betas=(0.9, 0.999))


def _of_recipe(
    classifier: BaselineClassifier, settings: TrainSettings, decoder_lr: float | None
) -> torch.optim.Optimizer:
    recipe = classifier.entry.recipe
    lr = recipe.lr if settings.lr is None else settings.lr
    decay = recipe.weight_decay if settings.weight_decay is None else settings.weight_decay
    by_factor: dict[float, list[nn.Parameter]] = {}
    for network in classifier.networks.values():
        for name, parameter in network.named_parameters():
            if parameter.requires_grad:
                by_factor.setdefault(_factor(recipe, name), []).append(parameter)
    if classifier.ordinal is not None:
        by_factor.setdefault(1.0, []).extend(classifier.ordinal.parameters())
    groups = [
        {"params": parameters, "base_lr": lr * factor, "weight_decay": decay}
        for factor, parameters in sorted(by_factor.items())
    ]
    decoder = list(classifier.decoder.parameters())
    if decoder:
        groups.append({"params": decoder, "base_lr": lr if decoder_lr is None else decoder_lr, "weight_decay": decay})
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=0.0, momentum=recipe.momentum)
    return torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.999))


def _factor(recipe: Recipe, name: str) -> float:
    """On the learning rate of this parameter."""
    return next((factor for start, factor in recipe.slow.items() if name.startswith(start)), 1.0)


def learning_rate_factor(step: int, total_steps: int, schedule: str, warmup: float = 0.0) -> float:
    """Factor on the base learning rates at optimiser step ``step`` (from 0): 1, or a half cosine from 1 to 0.

    Over the first ``warmup`` of all steps it rises in a line instead; the first step is no standstill, and the schedule
    has what is left.
    """
    rising = round(warmup * total_steps)
    if step < rising:
        return (step + 1) / (rising + 1)
    if schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * min((step - rising) / max(total_steps - rising, 1), 1.0)))


def set_learning_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set every group's learning rate to ``factor`` times its base."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor


def clip_gradients(classifier: Classifier, settings: TrainSettings, *, with_decoder: bool) -> float:
    """Shorten the gradients to ``clip_norm``, the decoder's by themselves: a large one must not slow the classifier
    down. With ``clip: group`` LoRA's are by themselves too, so that the head's do not shorten its steps. Returns the
    norm of all of them as it was.

    Without a mask in the step the decoder stands still, however the step is spread over processes.
    """
    groups: dict[str, list[nn.Parameter]] = {"lora": [], "rest": [], "decoder": []}
    for name, parameter in classifier.named_parameters():
        apart = name.partition(".")[0]
        is_apart = apart == "decoder" or (apart == "lora" and settings.clip == "group")
        groups[apart if is_apart else "rest"].append(parameter)
    if not with_decoder:
        for parameter in groups.pop("decoder"):
            parameter.grad = None
    norms = [float(nn.utils.clip_grad_norm_(group, settings.clip_norm)) for group in groups.values() if group]
    return math.hypot(*norms)
