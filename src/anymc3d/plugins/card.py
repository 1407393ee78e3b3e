"""The card of a plugin: all that its file says besides the tensors, strict in every key and type.

An ensemble is one file too: its card has the cards of its members, which share labels, preprocessing and backbone.
A baseline is a network that holds all its weights: it has no backbone, and its method is a name of the zoo.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from anymc3d.errors import PluginError, UsageError
from anymc3d.evaluate.operating_points import OperatingPoint
from anymc3d.evaluate.task_calibration import TaskCalibration
from anymc3d.files.folders import differing
from anymc3d.settings.config import LabelSettings, MethodSettings, SegmentationSettings, ViewSettings
from anymc3d.settings.plain import from_plain, to_plain
from anymc3d.types import Modality

PLUGIN_FORMAT = 1
KINDS = ("plugin", "ensemble", "baseline")
INTENDED_USE = "Research use only. Not a medical device; not for diagnosis or treatment."
_FREE_OF_BACKBONE = ("name", "licence", "trunk")
"""What may differ between records of one backbone: the fingerprint decides, the name is for people, and members may
adapt different numbers of blocks."""


@dataclass(frozen=True, kw_only=True)
class BackboneRecord:
    """Which frozen network a plugin belongs to. ``fingerprint`` decides; the name is for people."""

    name: str
    fingerprint: str
    positions: str
    embed_dim: int
    patch_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    licence: str
    trunk: str | None = None
    """Fingerprint of the part before the last ``method.blocks`` blocks, which the plugin leaves as it is; None where it
    adapts the whole backbone, or nothing."""


@dataclass(frozen=True, kw_only=True)
class PluginCard:
    """The header of a plugin file."""

    name: str
    labels: LabelSettings
    modality: Modality
    preprocessing: Mapping[str, ViewSettings]
    """View -> how its slices are made."""
    backbone: BackboneRecord | None
    """None of a baseline, and of an ensemble of baselines."""
    method: MethodSettings
    fusion: str
    code_version: int
    """Of the preprocessing code; another version would prepare other slices."""
    segmentation: SegmentationSettings | None = None
    """How it learned from masks, with its structures' labels; None = it did not. ``keep``: the decoder is here."""
    intensities: Mapping[str, Any] = field(default_factory=dict)
    """Image column -> summary of the training scans' intensity profiles, in raw units."""
    operating_points: tuple[Mapping[str, Any], ...] = ()
    """One per label: name, criterion, threshold on the raw logit, the split it was chosen on and its counts."""
    calibration: TaskCalibration | None = None
    """Of the raw logits; of an ensemble: of the mean of its members' calibrated logits, None = taken as it is."""
    metrics: tuple[Mapping[str, Any], ...] = ()
    """Rows of ``metrics.csv`` on the validation split."""
    split: Mapping[str, Any] = field(default_factory=dict)
    """Numbers of cases and patients per split, and the salted hash of the training split."""
    training: Mapping[str, Any] = field(default_factory=dict)
    """The recipe, and the software it ran on."""
    tensors_sha256: str = ""
    """Of the tensors as stored; written when the file is."""
    licence: str = "unspecified"
    intended_use: str = INTENDED_USE
    kind: str = "plugin"
    members: tuple[Member, ...] = ()
    """Of an ensemble, in the order of its tensors."""
    format_version: int = PLUGIN_FORMAT

    def __post_init__(self) -> None:
        if not self.preprocessing:
            raise UsageError("preprocessing: expected at least one view, got none")
        if bool(self.members) != (self.kind == "ensemble"):
            raise UsageError(f"members: expected some in an ensemble only, got {len(self.members)} in a {self.kind}")
        if self.kind != "ensemble" and (self.backbone is None) != (self.kind == "baseline"):
            raise UsageError(
                f"backbone: a baseline has none and a plugin has one, got "
                f"{'none' if self.backbone is None else self.backbone.name} in a {self.kind}"
            )
        if self.calibration is not None:
            self.calibration.check_fits(self.labels, self.thresholds)
        for index, member in enumerate(self.members):
            problems = member_differences(self, member.card)
            if problems:
                raise UsageError(f"members[{index}]: does not belong to this ensemble: {'; '.join(problems[:4])}")
        if len({member.card.calibration is None for member in self.members}) > 1:
            raise UsageError("members: expected a calibration in all of them or in none")
        self.thresholds  # noqa: B018 - checks them

    @property
    def decodes(self) -> bool:
        """Whether the plugin holds its decoders, or all members of the ensemble theirs, of the same structures."""
        if self.members:
            classes = {member.card.segmentation and member.card.segmentation.classes for member in self.members}
            return len(classes) == 1 and all(member.card.decodes for member in self.members)
        return self.segmentation is not None and self.segmentation.keep

    @property
    def holds_network(self) -> bool:
        """Whether the file holds whole networks, of one baseline or of several."""
        return self.backbone is None

    @property
    def views(self) -> tuple[str, ...]:
        """View names in the order of the model."""
        return tuple(self.preprocessing)

    @property
    def thresholds(self) -> tuple[float, ...]:
        """Raw logit per label from which on a case is positive; 0, a plain sigmoid of 0.5, where none is recorded.

        Raises:
            UsageError: the recorded operating points are not one per label, or not whole.
        """
        names = self.labels.output_names
        if not self.operating_points:
            return (0.0,) * len(names)
        if len(self.operating_points) != len(names):
            raise UsageError(
                f"operating_points: expected {len(names)}, one per label, got {len(self.operating_points)}"
            )
        return tuple(OperatingPoint.from_dict(point).threshold for point in self.operating_points)

    @property
    def is_calibrated(self) -> bool:
        """Whether its probabilities were fitted to outcomes; of an ensemble: its own or those of all members."""
        if self.calibration is not None:
            return True
        return bool(self.members) and all(member.card.is_calibrated for member in self.members)

    @property
    def logits_id(self) -> str:
        """Equal for plugins that give equal logits: the tensors, and in an ensemble the members' calibrations."""
        if not self.members:
            return self.tensors_sha256
        maps = [to_plain(member.card.calibration) for member in self.members]
        return hashlib.sha256(f"{self.tensors_sha256}{json.dumps(maps, sort_keys=True)}".encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Member:
    """One plugin of an ensemble: its whole card and the hash its file had."""

    card: PluginCard
    hash: str


def member_differences(card: PluginCard, other: PluginCard) -> list[str]:
    """What keeps two plugins out of one ensemble, one line each: slices, backbone and labels must be one."""
    if other.kind == "ensemble":
        return [f"it is of kind {other.kind!r}; give plugins, of an ensemble its members"]
    if card.holds_network != other.holds_network:
        return [f"it is a {other.kind}, and the first one is not; baselines and plugins make no ensemble together"]
    return list(differing(_common(card), _common(other)))


def _common(card: PluginCard) -> dict[str, Any]:
    backbone = to_plain(card.backbone) or {}
    return {
        "labels": to_plain(card.labels),
        "modality": card.modality,
        "preprocessing": to_plain(card.preprocessing),
        "code_version": card.code_version,
        "backbone": {key: value for key, value in backbone.items() if key not in _FREE_OF_BACKBONE},
    }


def card_to_json(card: PluginCard) -> str:
    """The header text; keys keep their order, because the views have one. NaN and infinity are refused."""
    return json.dumps(to_plain(card), allow_nan=False)


def read_card(text: str, where: str) -> PluginCard:
    """Parse a header; every key must be known and of the right type.

    Raises:
        PluginError: the header is damaged, of a newer format, or of another kind.
    """
    try:
        raw = json.loads(text, object_pairs_hook=_no_duplicates)
    except (ValueError, RecursionError) as error:
        raise PluginError(f"{where}: expected JSON in the header, got something else ({error})") from None
    if not isinstance(raw, dict):
        raise PluginError(f"{where}: expected a JSON object in the header, got {type(raw).__name__}")
    version = raw.get("format_version")
    if version != PLUGIN_FORMAT:
        raise PluginError(f"{where}: this version reads plugins of format {PLUGIN_FORMAT}, got {version!r}")
    if raw.get("kind") not in KINDS:
        raise PluginError(f"{where}: expected kind {' or '.join(map(repr, KINDS))}, got {raw.get('kind')!r}")
    problems: list[str] = []
    card = from_plain(PluginCard, raw, problems)
    if problems:
        raise PluginError(f"{where}: the header cannot be used: {'; '.join(problems[:6])}")
    return card


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found
