"""Settings of one task, as frozen dataclasses; the task file (YAML) is their only other form.

Nothing here imports torch, so help texts and listings start at once. Each class checks its own values when it is
built. Values that name an entry of a table (fusion, augmentation, method) are checked where the table is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from anymc3d.errors import SettingError
from anymc3d.settings.limits import Between, Label, Length, Millimetre, Seed, Share
from anymc3d.types import LabelKind, Modality

FORMAT_VERSION = 1
ONE_OF_CLASSES: tuple[LabelKind, ...] = ("multiclass", "ordinal")
"""The kinds of label of which a case has exactly one of several: probabilities add up to 1, the largest decides."""

MAX_VIEWS = 16
MAX_PIXELS = 2**29
"""Of one view of one scan, channels included: a gigabyte in half precision. The paper's largest, T11, has 2**27.3."""
MAX_LABELS = 1000
MAX_STRUCTURES = 512
MAX_COVARIATES = 100

VIEW_NAME = "[A-Za-z0-9][A-Za-z0-9_-]{0,39}"
Entry = Annotated[str, Length(100)]
"""A name of one of this program's tables."""
Column = Annotated[str, Length(200)]
"""Of a manifest."""
Reference = Annotated[str, Length(4096)]
"""A name, or a path or file of the person who wrote it."""
VoxelSide = Annotated[float, Between(0.01, 1000)]
"""Millimetres."""
Voxels = Annotated[int, Between(1, 2048)]
"""Along one axis of a network's grid."""
MaskLabel = Annotated[int, Between(0, 2**31 - 1)]
Pixels = Annotated[int, Between(1, 1024)]
Slices = Annotated[int, Between(1, 4096)]
Percent = Annotated[float, Between(0, 100)]
Rate = Annotated[float, Between(0, 1e30)]
_RESERVED_VIEWS = frozenset({"fused"})
"""Names that stand for something else beside the views: the heatmap over all of them."""


def check_view_names(names: Iterable[str]) -> None:
    """Check the names of views, which stand in names of tensors, files and folders.

    Raises:
        UsageError: too many, or a name that is not letters, digits, - and _.
    """
    names = list(names)
    require(len(names) > 0, "views: expected at least one view, got none")
    require(len(names) <= MAX_VIEWS, f"views: expected at most {MAX_VIEWS}, got {len(names)}")
    bad = [name for name in names if not re.fullmatch(VIEW_NAME, name)]
    require(not bad, f"views: names are letters (a-z), digits, - and _ only, at most 40, got {bad[:3]}")
    reserved = _RESERVED_VIEWS.intersection(names)
    require(not reserved, f"views: {', '.join(reserved)} is the name of something else; choose another")


def require(condition: bool, message: str) -> None:
    """Raise :class:`UsageError` with ``message`` unless ``condition`` holds."""
    if not condition:
        raise SettingError(message)


@dataclass(frozen=True, kw_only=True)
class LabelSettings:
    """Which manifest columns are the targets and how their cells are read. An empty cell is a missing label."""

    columns: Annotated[tuple[Column, ...], Length(MAX_LABELS)]
    """One column (binary, multi-class or ordinal), or several binary columns (multi-label)."""
    kind: LabelKind
    """``ordinal``: classes with an order, such as grades; one score and the cut points between neighbouring grades.
    ``regression``: one number, such as an age or a score."""
    classes: Annotated[tuple[Label, ...], Length(MAX_LABELS)] = ()
    """Multi-class: the cell texts in logit order. Ordinal: from the lowest grade up. Binary: (negative, positive)."""

    def __post_init__(self) -> None:
        require(len(self.columns) > 0, "labels.columns: expected at least one manifest column, got none")
        require(
            len(set(self.columns)) == len(self.columns), f"labels.columns: a column is named twice in {self.columns}"
        )
        if self.kind == "multilabel":
            require(not self.classes, "labels.classes: multi-label columns are 0/1 each and take no classes")
            return
        require(
            len(self.columns) == 1,
            f"labels.columns: kind {self.kind} has one column, got {len(self.columns)}; several are kind: multilabel",
        )
        if self.kind == "regression":
            require(not self.classes, f"labels.classes: a number has no classes, got {list(self.classes)}")
            return
        least, expected = {"binary": (2, "exactly 2"), "ordinal": (3, "at least 3")}.get(self.kind, (2, "at least 2"))
        right = len(self.classes) >= least and (self.kind != "binary" or len(self.classes) == 2)
        require(right, f"labels.classes: kind {self.kind} needs {expected} classes, got {list(self.classes)}")
        require(len(set(self.classes)) == len(self.classes), f"labels.classes: a class appears twice in {self.classes}")

    @property
    def one_of_classes(self) -> bool:
        """Whether a case has exactly one of several classes: one label per class, probabilities adding up to 1."""
        return self.kind in ONE_OF_CLASSES

    @property
    def is_number(self) -> bool:
        """Whether the label is a number: no classes, no probability and no decision."""
        return self.kind == "regression"

    @property
    def head(self) -> str:
        """The entry of ``anymc3d.models.heads.HEADS`` that gives this task's logits."""
        return "ordinal" if self.kind == "ordinal" else "linear"

    @property
    def num_logits(self) -> int:
        """K: two for binary (softmax over negative and positive), one per class or per column otherwise."""
        return len(self.columns) if self.kind in ("multilabel", "regression") else len(self.classes)

    @property
    def output_names(self) -> tuple[str, ...]:
        """The labels of ``predictions.csv``: the column (binary), ``column=class``, or one per column."""
        if self.one_of_classes:
            return tuple(f"{self.columns[0]}={name}" for name in self.classes)
        return self.columns


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """Where the cases are and how they are split when the manifest has no ``split`` column."""

    manifest: Reference
    modality: Modality = "other"
    fractions: tuple[Share, Share, Share] = (0.7, 0.1, 0.2)
    """Train, val, test; by patient, stratified on the labels. Ignored when the manifest has a ``split`` column."""
    split_seed: Seed = 0

    def __post_init__(self) -> None:
        total = sum(self.fractions)
        positive = min(self.fractions[:2]) > 0 and self.fractions[2] >= 0
        require(
            positive and abs(total - 1.0) < 1e-6,
            f"data.fractions: expected three parts that add up to 1 with train and val above 0, got {self.fractions}",
        )


@dataclass(frozen=True, kw_only=True)
class NetworkSettings:
    """How a scan becomes the input of a segmentation network, one channel (1, 1, X, Y, Z) float32, and what comes out.

    The network gives scores (1, K, X, Y, Z), of which the largest decides, or whole-number labels.
    """

    normalise: Literal["unit", "percentile", "window", "zscore", "none"]
    """``unit``: lowest voxel to 0, highest to 1; ``percentile``: the same, of the voxels between the 0.1st and the
    99.9th percentile; ``window``: low and high of ``window`` to 0 and 1."""
    window: tuple[float, float] | None = None
    orientation: str = "RAS"
    """Where the network's three axes point, such as ``RAS`` or ``LIA``."""
    spacing_mm: tuple[VoxelSide, VoxelSide, VoxelSide] | None = None
    """Along the network's axes; null = the scan's own."""
    grid: tuple[Voxels, Voxels, Voxels] | None = None
    """Voxels along the network's axes, about the scan's centre; null = as many as the scan has."""
    multiple_of: Voxels = 1
    """Each axis is padded up to a multiple of this, as networks that halve their input need."""
    threshold: float | None = None
    """For a network with one score (K = 1): from which score on a voxel is label 1."""

    def __post_init__(self) -> None:
        require((self.normalise == "window") == (self.window is not None), "window: goes with normalise: window alone")
        low, high = self.window or (0, 1)
        require(low < high, f"window: low must be below high, got {self.window}")
        axes = [{"L": "R", "P": "A", "I": "S"}.get(letter, letter) for letter in self.orientation]
        require(
            sorted(axes) == ["A", "R", "S"],
            f"orientation: expected one letter each of R or L, A or P, S or I, got {self.orientation!r}",
        )
        require(self.spacing_mm is None or min(self.spacing_mm) > 0, f"spacing_mm: expected mm, got {self.spacing_mm}")
        require(self.grid is None or min(self.grid) > 0, f"grid: expected numbers of voxels, got {self.grid}")
        require(self.multiple_of >= 1, f"multiple_of: expected 1 or more, got {self.multiple_of}")


@dataclass(frozen=True, kw_only=True)
class RoiSettings:
    """The region of a scan that a view shows, along the patient's axes (x left-right, y front-back, z up-down)."""

    source: Literal["mask", "point", "totalsegmentator", "onnx", "meshnet"]
    """An entry of ``anymc3d.data.regions.ROI_SOURCES``: who says where the region is."""
    classes: Annotated[tuple[MaskLabel, ...], Length(MAX_STRUCTURES)] = ()
    """Labels of the segmentation that make the region; none = every label above 0."""
    organs: Annotated[tuple[Entry, ...], Length(MAX_STRUCTURES)] = ()
    """With TotalSegmentator: names of its classes, in place of labels."""
    margin_mm: tuple[Millimetre, Millimetre, Millimetre] = (10.0, 10.0, 10.0)
    """Kept around the box of a segmentation on either side, along x, y, z; never beyond the scan."""
    size_mm: tuple[Millimetre, Millimetre, Millimetre] | None = None
    """Of the box about a point, along x, y, z."""
    component: Literal["all", "largest"] = "all"
    """``largest``: of the segmentation's connected parts only the largest counts."""
    on_empty: Literal["fail", "whole", "exclude"] = "fail"
    """Without one voxel of the region: the case fails, the whole scan is taken, or the case is left out."""
    on_cut: Literal["keep", "fail", "exclude"] = "keep"
    """When the region is cut by the border of the scan."""
    cut_share: Share = 0.2
    """It counts as cut where its area on an outermost slice is at least so large a part of its largest area."""
    model: Reference | None = None
    """Of a network: its file, or ``sha256:`` and the hash of one in the local store."""
    network: NetworkSettings | None = None
    """Of a network: its input and output; needed for ONNX."""
    program: Reference | None = None
    """The TotalSegmentator program, a path or a name on the search path; null = its output is in the mask column."""
    fast: bool = False
    """TotalSegmentator's faster, coarser model."""
    timeout_s: Annotated[int, Between(1, 7 * 24 * 3600)] = 3600
    """For one scan of the program."""

    def __post_init__(self) -> None:
        source, network = self.source, self.source in ("onnx", "meshnet")
        require(min(self.classes, default=1) > 0, f"classes: expected labels above 0, got {self.classes}")
        require(min(self.margin_mm) >= 0, f"margin_mm: expected 0 mm or more, got {self.margin_mm}")
        require(0 < self.cut_share <= 1, f"cut_share: expected above 0 to 1, got {self.cut_share}")
        require(self.timeout_s > 0, f"timeout_s: expected seconds above 0, got {self.timeout_s}")
        require(
            (source == "point") == (self.size_mm is not None) and min(self.size_mm or (1,)) > 0,
            f"size_mm: the millimetres of the box about a point, for source: point alone, got {self.size_mm}",
        )
        require(
            not self.organs if source != "totalsegmentator" else bool(self.organs) and not self.classes,
            "organs: source: totalsegmentator names its organs here (and no classes), other sources take classes",
        )
        require(network == (self.model is not None), "model: the network's file, for source: onnx or meshnet alone")
        require(source != "onnx" or self.network is not None, "network: missing; an ONNX file does not say its input")
        require(network or self.network is None, f"network: for source: onnx or meshnet alone, not {source}")
        plain = source != "totalsegmentator" and (self.program is not None or self.fast)
        require(not plain, f"program, fast: for source: totalsegmentator alone, not {source}")


@dataclass(frozen=True, kw_only=True)
class ViewSettings:
    """How one view is cut out of a scan. Sizes are (in-plane x, in-plane y, slices), as in the paper's Table 3."""

    size: tuple[Pixels, Pixels, Slices | None]
    """Pixels in-plane and number of slices; a null third entry keeps each scan's own number of slices."""
    image: Column = "image"
    """The manifest column that holds this view's scan; several views may be planes of one image."""
    plane: Literal["auto", "axial", "coronal", "sagittal"] = "auto"
    """The slice plane; auto = the acquisition plane (largest spacing, ties axial)."""
    field_of_view: tuple[Millimetre, Millimetre, Millimetre] | None = None
    """Millimetres, in the order of ``size``: crop or pad about the centre before resizing; null = the whole scan."""
    normalise: Literal["window", "suv", "zscore", "percentile"] = "percentile"
    """``suv``: windows in SUV of PET; a scan whose header says other units is refused."""
    statistics: Literal["backbone", "none"] | None = None
    """Whether the mean and standard deviation of the backbone's images are applied on top. Null: ``none`` to z-scores,
    which have mean 0 and deviation 1 by themselves, ``backbone`` to everything else."""
    windows: Annotated[tuple[tuple[float, float], ...], Length(3)] = ()
    """(low, high) pairs mapped to [0, 1]; one pair, or three that become the channels."""
    percentiles: tuple[Percent, Percent] = (0.5, 99.5)
    input: Literal["replicate", "neighbours"] = "replicate"
    """How one channel becomes the backbone's three: the slice three times, or (2.5D) the slice before, itself and the
    one after, where the first and last slice stand in for the neighbour they lack."""
    roi: RoiSettings | None = None
    """The region that is cut out first; ``field_of_view`` is then about its centre. Null = the whole scan."""

    def __post_init__(self) -> None:
        in_plane, slices = self.size[:2], self.size[2]
        require(
            min(in_plane) >= 1 and (slices is None or slices >= 1), f"size: expected positive numbers, got {self.size}"
        )
        require(
            in_plane[0] * in_plane[1] * (slices or 1) * self.num_channels <= MAX_PIXELS,
            f"size: expected at most {MAX_PIXELS} pixels in all channels, got {self.size}",
        )
        if self.normalise in ("window", "suv"):
            require(len(self.windows) in (1, 3), f"windows: expected one window or three, got {len(self.windows)}")
            require(
                all(low < high for low, high in self.windows), f"windows: low must be below high, got {self.windows}"
            )
        else:
            require(not self.windows, f"windows: only used with normalise: window or suv, not {self.normalise}")
        low, high = self.percentiles
        require(0 <= low < high <= 100, f"percentiles: expected 0 <= low < high <= 100, got {self.percentiles}")
        require(
            self.input == "replicate" or len(self.windows) <= 1,
            "input: neighbours needs one channel, and three windows are three; use one window or input: replicate",
        )
        if self.field_of_view is not None:
            require(min(self.field_of_view) > 0, f"field_of_view: expected positive mm, got {self.field_of_view}")

    @property
    def is_standardised(self) -> bool:
        """Whether the slices go to the backbone as they are, without its mean and standard deviation."""
        return (self.statistics or ("none" if self.normalise == "zscore" else "backbone")) == "none"

    @property
    def num_channels(self) -> int:
        """C of the prepared slices: 1, or 3 with three windows."""
        return max(1, len(self.windows))


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
    """LoRA in the last so many blocks of the backbone alone; what lies before them is then the same for every plugin,
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
    """Of ``eomt-2d`` and ``eomt-3d``; null = four per structure, at least 16."""
    lr: Rate | None = None
    """Of the decoder; null = ``train.head_lr``, with ``own`` that of the network. EoMT's authors train with 2e-4."""
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
    """Of a network; null = its own recipe's."""
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup: Share | None = None
    """Share of all steps over which the learning rates rise from 0, before the schedule."""
    clip_norm: Rate = 1.0
    clip: Literal["joint", "group"] | None = None
    """``joint``: the norm is that of the gradient of LoRA, query and head together. ``group``: LoRA has its own, so the
    head's gradient does not shorten its steps."""
    trained_share: Share | None = None
    """Of the way from the start to what was trained, at which epochs are validated and kept; 1 = what was trained."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Of the backbone in training; auto = bf16 where the processor computes it natively, otherwise fp32."""
    patience: Annotated[int, Between(0, 100_000)] | None = None
    """Stop after so many epochs without a better validation metric; null = train all epochs."""
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


@dataclass(frozen=True, kw_only=True)
class TaskSettings:
    """One task file."""

    name: Label
    labels: LabelSettings
    data: DataSettings
    views: Annotated[Mapping[str, ViewSettings], Length(MAX_VIEWS)]
    """A single view is called ``image``."""
    covariates: Annotated[tuple[Column, ...], Length(MAX_COVARIATES)] = ()
    """Columns of the manifest that answer beside the image; ``category:COLUMN``: its numbers are names;
    ``measure:NAME``: a measure of the scan or of its mask, see docs/plain.md."""
    backbone: BackboneSettings = field(default_factory=BackboneSettings)
    method: MethodSettings = field(default_factory=MethodSettings)
    fusion: Entry = "query"
    features: Entry = "class"
    """What of the backbone's answer stands for a slice; ``--quick`` takes several with commas between, or ``all``."""
    segmentation: SegmentationSettings = field(default_factory=SegmentationSettings)
    augmentation: Entry = "flips"
    train: TrainSettings = field(default_factory=TrainSettings)
    calibration: Literal["none", "f1", "crg", "f1_crg", "youden", "temperature", "isotonic"] = "none"
    """Fitted on validation when training ends: Platt through the operating point of a criterion, or another map."""
    format: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        require(
            self.format == FORMAT_VERSION,
            f"format: this version reads task files of format {FORMAT_VERSION}, got {self.format}",
        )
        require(
            not self.labels.is_number or self.calibration == "none",
            f"calibration: a number has no probability to calibrate, takes none, got {self.calibration}",
        )
        require(
            not self.labels.one_of_classes or self.calibration in ("none", "temperature"),
            f"calibration: a {self.labels.kind} task is decided by the largest probability, takes none or temperature, "
            f"got {self.calibration}",
        )
        twice = [name for name in self.covariates if self.covariates.count(name) > 1]
        require(not twice, f"covariates: {', '.join(dict.fromkeys(twice))} appears twice")
        named = [name for name in self.covariates if name.removeprefix("category:") in self.labels.columns]
        require(not named, f"covariates: {', '.join(named)} is the label itself; leave it out")
        check_view_names(self.views)
        if len(self.views) == 1:
            require(self.train.view_dropout == 0, "train.view_dropout: needs at least two views, this task has one")
            (only,) = self.views
            require(only == "image", f"views: the view of a single-view task is called 'image', got {only!r}")
