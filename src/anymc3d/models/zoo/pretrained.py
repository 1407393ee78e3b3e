"""A pretrained 3D encoder and a linear head: the three adaptation strategies of the paper's Table 4.

``linear``: only the head is trained. ``lora``: the head and a pair of small matrices for chosen layers (rank 8, alpha
16, as for AnyMC3D). ``full``: everything. In the first two the encoder is frozen and stays in evaluation mode, so its
batch norms keep their published statistics (docs/methods.md).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call

from anymc3d.models.heads import LinearHead
from anymc3d.models.lora import LoRA
from anymc3d.models.zoo.volumes import check_whole

Strategy = Literal["linear", "lora", "full"]
RANK, ALPHA = 8, 16.0
STRATEGIES: dict[Strategy, str] = {"linear": "linear probing", "lora": "LoRA", "full": "full finetuning"}
FROZEN = "linear probing and LoRA leave the encoder frozen, batch norms with their published statistics"


class PretrainedClassifier(nn.Module):
    """Volume (B, 1, S, H, W) -> logits (B, K).

    Args:
        encoder: volumes to embeddings (B, ``embed_dim``); takes one channel, as its published weights do.
        num_logits: K.
        strategy: what is trained.
        targets: ends of the paths of the layers that LoRA adapts.
        generator: of the initial values of LoRA and the head.
    """

    def __init__(
        self,
        encoder: nn.Module,
        num_logits: int,
        *,
        strategy: Strategy,
        targets: Collection[str],
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.strategy = strategy
        self.encoder = encoder.requires_grad_(strategy == "full")
        self.lora = None
        if strategy == "lora":
            with torch.device(generator.device):
                self.lora = LoRA(encoder, rank=RANK, alpha=ALPHA, generator=generator, targets=targets)
        self.head = LinearHead(encoder.embed_dim, num_logits, generator)
        self.train()

    def train(self, mode: bool = True) -> PretrainedClassifier:
        """As ``nn.Module.train``, but a frozen encoder stays in evaluation mode."""
        super().train(mode)
        if self.strategy != "full":
            self.encoder.eval()
        return self

    def forward(self, volume: Tensor, slice_mask: Tensor) -> Tensor:
        """(B, 1, S, H, W) and (B, S) -> logits (B, K); refuses padded slices."""
        check_whole(volume, slice_mask, 1)
        weights = {} if self.lora is None else self.lora.weights(self.encoder)
        return self.head(functional_call(self.encoder, weights, (volume,)))
