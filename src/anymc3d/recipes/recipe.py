"""What a recipe says: one task of the paper as data, nothing of it measured and nothing of it trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from anymc3d.settings.config import LabelSettings
from anymc3d.settings.limits import require
from anymc3d.settings.views import RoiSettings, ViewSettings
from anymc3d.types import LabelKind, Modality

PAPER = (
    "Liu et al., Revisiting 2D Foundation Models for Scalable 3D Medical Image Classification, arXiv 2512.12887, 2025"
)
Access = Literal["public", "private"]


@dataclass(frozen=True, kw_only=True)
class RecipeLabels:
    """The targets. ``columns`` are those that the data set's adapter writes; for private data they are stand-ins."""

    kind: LabelKind
    columns: tuple[str, ...] = ()
    """Empty: the user names them."""
    classes: tuple[str, ...] = ()
    count: int = 1
    """Number of label columns."""

    def settings(self, columns: tuple[str, ...] = ()) -> LabelSettings:
        """The labels of a task; ``columns`` are the user's own, in place of the recipe's."""
        return LabelSettings(columns=columns or self.columns, kind=self.kind, classes=self.classes)

    @property
    def num_logits(self) -> int:
        """K: one per label column of a multi-label task, otherwise one per class."""
        return self.count if self.kind == "multilabel" else len(self.classes)


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Table 3: scans or crops, and the printed percentage of positives."""

    total: int
    train: int
    val: int
    test: int
    positive_percent: float | None = None


@dataclass(frozen=True, kw_only=True)
class PrintedAuroc:
    """A number of the paper; two of one task are two printed values, and both are kept."""

    value: float
    model: str
    where: str
    other_backbone: bool = False
    """Whether it is of another backbone than the recipe's, and so not in the short list."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One task of the paper."""

    id: str
    """``T1`` to ``T12``."""
    name: str
    """The name in the task file."""
    title: str
    modality: Modality
    labels: RecipeLabels
    views: Mapping[str, ViewSettings]
    fractions: tuple[float, float, float]
    """Train, val, test; where the manifest has no ``split``."""
    split_rule: str
    counts: Counts
    access: Access
    data: str
    """Whose data, and how to get them."""
    terms: str
    citation: str
    adapter: str | None = None
    """The name for ``anymc3d data adapt``; None: a manifest of the user's own."""
    batch_size: int = 2
    backbone: str = "dinov3-large"
    metric: str = "auroc"
    """Selects the epoch, and is reported."""
    printed: tuple[PrintedAuroc, ...] = ()
    printed_parameters: str = "1.20 M"
    """With the recipe's backbone and one view."""
    reasons: Mapping[str, str] = field(default_factory=dict)
    """Why a choice is so, by dotted key of the task file (of a view: ``view.size``); Table 3 where nothing is said."""
    notes: tuple[str, ...] = ()
    """What the paper leaves open, or says in two ways."""

    def __post_init__(self) -> None:
        parts = self.counts.train + self.counts.val + self.counts.test
        require(parts == self.counts.total, f"{self.id}: {parts} cases in three parts, {self.counts.total} in total")

    @property
    def roi(self) -> RoiSettings | None:
        """The region that is cut out; the same for all views."""
        return next(iter(self.views.values())).roi
