"""Settings of one task, as frozen dataclasses; the task file (YAML) is their only other form.

Nothing here imports torch, so help texts and listings start at once. Each class checks its own values when it is
built. Values that name an entry of a table (fusion, augmentation, method) are checked where the table is. Views are in
:mod:`anymc3d.settings.views`, what is trained and how in :mod:`anymc3d.settings.training`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from anymc3d.settings.limits import Column, Entry, Label, Length, Reference, Seed, Share, require
from anymc3d.settings.training import BackboneSettings, MethodSettings, SegmentationSettings, TrainSettings
from anymc3d.settings.views import MAX_VIEWS, ViewSettings, check_view_names
from anymc3d.types import LabelKind, Modality

FORMAT_VERSION = 1
ONE_OF_CLASSES: tuple[LabelKind, ...] = ("multiclass", "ordinal")
"""The kinds of label of which a case has exactly one of several: probabilities add up to 1, the largest decides."""
MAX_LABELS = 1000
MAX_COVARIATES = 100


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
