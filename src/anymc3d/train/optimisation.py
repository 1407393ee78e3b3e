"""The paper's two parameter groups (supplement A3) and that of decoders, AdamW, and the learning rate over a run."""

from __future__ import annotations

import math

import torch

from anymc3d.config import TrainSettings
from anymc3d.models.classifier import VolumeClassifier


def build_optimizer(
    classifier: VolumeClassifier, settings: TrainSettings, decoder_lr: float | None = None
) -> torch.optim.AdamW:
    """AdamW over LoRA (lr 1e-4, weight decay 1e-5), queries + head (lr 1e-3, weight decay 1e-4) and decoders (as the
    head, or with their own lr)."""
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


def learning_rate_factor(step: int, total_steps: int, schedule: str) -> float:
    """Factor on the base learning rates at optimiser step ``step`` (from 0): 1, or a half cosine from 1 to 0."""
    if schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * min(step / max(total_steps, 1), 1.0)))


def set_learning_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set every group's learning rate to ``factor`` times its base."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor
