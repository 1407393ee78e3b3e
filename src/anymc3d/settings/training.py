"""What is trained, on which backbone and how: the backbone, the method, learning from masks, and the optimiser."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from anymc3d.settings.limits import (
    MAX_STRUCTURES,
    Between,
    Entry,
    Length,
    MaskLabel,
    Rate,
    Reference,
    Seed,
    Share,
    require,
)


@dataclass(frozen=True, kw_only=True)
class BackboneSettings:
    """The frozen 2D network: a name of ``anymc3d backbone list``, or a folder or file of weights."""

    name: Reference = "dinov2-small"
    positions: Literal["official", "hf"] = "official"
    """How learned positions are resized: the official code's rule, or Hugging Face's. Part of the plugin's record."""


@dataclass(frozen=True, kw_only=True)
class MethodSettings:
    """``anymc3d``: LoRA on the backbone; ``frozen``: no LoRA, the query (or other fusion) and head alone. Any other
    name is a network of ``anymc3d benchmark --list-methods``, which holds its own weights and takes no backbone."""

    name: Entry = "anymc3d"
    rank: Annotated[int, Between(1, 256)] = 8
    alpha: Annotated[float, Between(0, 1e9)] = 16.0
    blocks: Annotated[int, Between(0, 1000)] | None = None
    """LoRA only in this many last blocks of the backbone; what lies before them is then the same for every plugin,
    and computed once for all. Null = in all blocks and the patch embedding, as in the paper."""
    weights: Reference | None = None
    """Of a network: what it starts from. Null = what its entry says, from the local store; ``random`` = random values
    on purpose; otherwise a file."""
    head: Entry | None = None
    """On a backbone: an own head, see docs/own-parts.md. Null = what the kind of label takes."""

    def __post_init__(self) -> None:
        require(1 <= self.rank <= 256, f"method.rank: expected 1 to 256, got {self.rank}")
        require(self.alpha > 0, f"method.alpha: expected a positive number, got {self.alpha}")
        require(
            self.blocks is None or self.blocks >= 1,
            f"method.blocks: expected 1 or more, or null (all blocks and the patch embedding), got {self.blocks}; "
            "for a backbone that is not adapted at all use method: frozen",
        )
        require(
            self.blocks is None or self.name != "frozen",
            f"method.blocks: method frozen adapts no block, got {self.blocks}; use method: anymc3d, or leave it out",
        )


@dataclass(frozen=True, kw_only=True)
class SegmentationSettings:
    """Learning from masks beside the labels; it changes how the classifier learns, not what it computes.

    Masks are those of the manifest's columns ``mask`` or ``mask.<view>``; cases without one are trained on the label
    alone.
    """

    decoder: Entry = "none"
    """An entry of ``anymc3d.models.decoders.table.DECODERS``; ``own``: what the authors of a network (``method``) train
    on masks; or ``none``."""
    classes: Annotated[tuple[MaskLabel, ...], Length(MAX_STRUCTURES)] = ()
    """Labels of the masks that are structures, in order; others are background. None = all found in training."""
    weight: Rate | None = None
    """Lambda: of the segmentation loss beside that of the labels. Null = 1, or with ``own`` that of the authors."""
    queries: Annotated[int, Between(1, 1024)] | None = None
    """Queries of ``eomt-2d`` and ``eomt-3d``; null = four per structure, at least 16."""
    lr: Rate | None = None
    """The decoder's learning rate; null = ``train.head_lr``, with ``own`` the network's. EoMT's authors took 2e-4."""
    keep: bool = False
    """Whether the plugin holds the decoder, for ``anymc3d predict --segmentation``."""

    def __post_init__(self) -> None:
        require(min(self.classes, default=1) > 0, f"segmentation.classes: labels above 0, got {self.classes}")
        require(
            len(set(self.classes)) == len(self.classes),
            f"segmentation.classes: a label appears twice in {self.classes}",
        )
        weight = self.weight
        require(weight is None or weight > 0, f"segmentation.weight: expected a number above 0, got {self.weight}")
        require(self.lr is None or self.lr >= 0, f"segmentation.lr: expected 0 or more, got {self.lr}")
        enough = self.queries is None or self.queries > len(self.classes)
        require(enough, f"segmentation.queries: expected more than structures and background, got {self.queries}")

    @property
    def is_on(self) -> bool:
        """Whether there is a decoder."""
        return self.decoder != "none"


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """AdamW in two groups, cosine to 0, best checkpoint by validation AUROC (supplement A3).

    Keys that are null take their value from the start, see :data:`anymc3d.settings.starts.STARTS`.
    """

    start: Literal["random", "frozen"] = "random"
    """``random``: query and head from small random values, the recipe of the paper. ``frozen``: from the solution on
    frozen features, which competes as epoch 0: see :mod:`anymc3d.train.frozen_start`."""
    standardise: bool | None = None
    """Train query and head on embeddings of mean 0 and spread 1 over the training cases; the plugin holds the same in
    raw units."""
    epochs: Annotated[int, Between(1, 10**9)] = 100
    batch_size: Annotated[int, Between(1, 4096)] = 2
    """Volumes a process computes at once."""
    accumulate: Annotated[int, Between(1, 4096)] = 1
    """Batches whose gradients are added up to one optimiser step: the step of a batch so many times as large."""
    sampling: Literal["natural", "balanced", "stratified"] = "natural"
    """``natural``: every training case once an epoch. ``balanced``: as many draws, with replacement, in which every
    class (of several labels: on average each outcome of each label) is equally likely. ``stratified``: every step has
    at least one case with a rarer outcome."""
    view_dropout: Share = 0.0
    """Probability with which each view of a training case is left out, never all of them."""
    copies: Annotated[int, Between(0, 100_000)] | None = None
    """With ``method.blocks``: augmented copies of each training scan whose trunk tokens are computed once and used in
    many epochs. 0 = every epoch draws and computes anew. Null = 8; 0 where a decoder learns from masks."""
    token_cache_gb: Rate = 20.0
    """Gigabytes of trunk tokens kept on this machine; what does not fit is computed again, to the same result."""
    chunk_size: Annotated[int, Between(1, 100_000)] = 64
    """Slices the backbone takes at once; changes memory, never the result."""
    recompute: bool = False
    """Recompute each chunk's activations in the backward pass: less memory, about a third more time."""
    loss: Entry | None = None
    """``focal``, ``cross-entropy``, or ``weighted-bce``: positives weigh negatives / positives in training. Null = the
    start's, of a network what its recipe says."""
    focal_gamma: Annotated[float, Between(0, 100)] = 2.0
    focal_alpha: Annotated[float, Between(0, 100)] = 0.25
    focal_alpha_mode: Literal["constant", "balanced"] = "constant"
    """``constant``: alpha is one factor for all, as printed in the paper. ``balanced`` (yes/no labels only): positives
    weigh alpha and negatives 1 - alpha, so alpha above 0.5 favours positives."""
    lora_lr: Rate | None = None
    lora_weight_decay: Rate = 1e-5
    head_lr: Rate | None = None
    head_weight_decay: Rate = 1e-4
    lr: Rate | None = None
    """Learning rate of a network (``method``); null = its own recipe's. AnyMC3D has lora_lr and head_lr."""
    weight_decay: Rate | None = None
    """Weight decay of a network; null = that of its own recipe."""
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup: Share | None = None
    """Share of all steps over which the learning rates rise from 0, before the schedule."""
    clip_norm: Rate = 1.0
    clip: Literal["joint", "group"] | None = None
    """``joint``: the norm is that of the gradient of LoRA, query and head together. ``group``: LoRA has its own, so the
    head's gradient does not shorten its steps."""
    trained_share: Share | None = None
    """Share of the way from the start to the trained weights at which epochs are validated and kept; 1 = all of it."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Of the backbone in training; auto = bf16 where the processor computes it natively, otherwise fp32."""
    patience: Annotated[int, Between(0, 100_000)] | None = None
    """Stop after this many epochs without a better validation metric; null = train all epochs."""
    seed: Seed = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "accumulate", "chunk_size", "clip_norm"):
            require(getattr(self, name) > 0, f"train.{name}: expected a number above 0, got {getattr(self, name)}")
        for name in ("lora_lr", "head_lr", "lora_weight_decay", "head_weight_decay", "focal_gamma"):
            value = getattr(self, name)
            require(value is None or value >= 0, f"train.{name}: expected 0 or more, got {value}")
        require(0 <= (self.warmup or 0) < 1, f"train.warmup: expected 0 to below 1, got {self.warmup}")
        share = self.trained_share
        require(share is None or 0 < share <= 1, f"train.trained_share: expected above 0 to 1, got {share}")
        require(
            share in (None, 1) or self.start == "frozen",
            f"train.trained_share: {share} is a share of the way from the frozen solution: "
            "it needs train.start=frozen, or leave it out",
        )
        require(self.copies is None or self.copies >= 0, f"train.copies: expected 0 or more, got {self.copies}")
        require(self.token_cache_gb >= 0, f"train.token_cache_gb: expected 0 or more, got {self.token_cache_gb}")
        require(self.lr is None or self.lr > 0, f"train.lr: expected a number above 0, got {self.lr}")
        decay = self.weight_decay
        require(decay is None or decay >= 0, f"train.weight_decay: expected 0 or more, got {decay}")
        require(0 <= self.view_dropout < 1, f"train.view_dropout: expected 0 to below 1, got {self.view_dropout}")
        constant = self.focal_alpha_mode == "constant"
        require(
            self.focal_alpha > 0 and (constant or self.focal_alpha < 1),
            f"train.focal_alpha: expected {'a number above 0' if constant else 'between 0 and 1'}, "
            f"got {self.focal_alpha}",
        )
