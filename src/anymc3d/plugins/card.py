"""The card of a plugin: all that its file says besides the tensors, strict in every key and type.

An ensemble is one file too: its card has the cards of its members, which answer the same labels. They may see other
slices, stand on other backbones and be of other kinds.
A baseline is a network that holds all its weights: it has no backbone, and its method is a name of the zoo. A plain
plugin has no network at all: one linear map of voxels, or of measures of the scan and its mask.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Annotated, Any, Literal

from anymc3d.errors import UsageError
from anymc3d.evaluate.calibration import STATES, State
from anymc3d.evaluate.conformal import PredictionSets
from anymc3d.evaluate.ood import ScanStatistics
from anymc3d.evaluate.operating_points import OperatingPoint
from anymc3d.evaluate.regression.scale import NumberScale
from anymc3d.evaluate.task_calibration import TaskCalibration
from anymc3d.files.folders import differing
from anymc3d.plugins.card_schema import IntensitySummary, MetricRow, Note, SplitRecord
from anymc3d.plugins.covariates import CovariateRecord
from anymc3d.printable import shown
from anymc3d.settings.config import LabelSettings
from anymc3d.settings.limits import As, Between, Column, Entry, Fact, Form, Label, Length
from anymc3d.settings.plain import to_plain
from anymc3d.settings.task_file import is_path
from anymc3d.settings.training import MethodSettings, SegmentationSettings
from anymc3d.settings.views import RoiSettings, ViewSettings, check_view_names
from anymc3d.types import Modality

PLUGIN_FORMAT = 1
KINDS = ("plugin", "ensemble", "baseline", "plain")
INTENDED_USE = "Research use only. Not a medical device; not for diagnosis or treatment."
MAX_MEMBERS = 128
MAX_STRUCTURES = 256
HIGHEST_LABEL = 32767
"""Of a segmentation, as :mod:`anymc3d.data.mask_slices` takes it."""
_PROGRAM = "TotalSegmentator"
"""What a card may call the program that draws a region; nothing of that name is looked for."""
_MODEL = re.compile(r"sha256:[0-9a-f]{64}")
_FINGERPRINT = Form(r"sha256:[0-9a-f]{64}", "sha256: and 64 hexadecimal digits")
_DIGEST = Form(r"[0-9a-f]{64}", "64 hexadecimal digits")
_Mean = Annotated[float, Between(-10, 10)]
_Std = Annotated[float, Between(1e-3, 10)]
_FREE_OF_BACKBONE = ("name", "licence", "trunk")
"""What may differ between records of one backbone: the fingerprint decides, the name is for people, and members may
adapt different numbers of blocks."""
MAX_MEASURES = 5000


@dataclass(frozen=True, kw_only=True)
class BackboneRecord:
    """Which frozen network a plugin belongs to. ``fingerprint`` decides; the name is for people."""

    name: Label
    fingerprint: Annotated[str, _FINGERPRINT]
    positions: Literal["official", "hf"]
    embed_dim: Annotated[int, Between(1, 16_384)]
    patch_size: Annotated[int, Between(1, 256)]
    mean: tuple[_Mean, _Mean, _Mean]
    std: tuple[_Std, _Std, _Std]
    licence: Note
    trunk: Annotated[str, _FINGERPRINT] | None = None
    """Fingerprint of the part before the last ``method.blocks`` blocks, which the plugin leaves as it is; None where it
    adapts the whole backbone, or nothing."""

    def __post_init__(self) -> None:
        if is_path(self.name) or "\\" in self.name or ":" in self.name:
            raise UsageError(f"name: expected a name, got '{shown(self.name)}', which looks like a path or an address")


@dataclass(frozen=True, kw_only=True)
class PlainRecord:
    """What a plain plugin takes of a case. ``measures``: their names in order, none of one that takes voxels;
    ``version``: of the code that measures; ``clip``: where standardised numbers are cut off."""

    measures: Annotated[tuple[Annotated[str, Length(300)], ...], Length(MAX_MEASURES)] = ()
    version: Annotated[int, Between(0, 10**6)] = 0
    clip: Annotated[float, Between(0.1, 1e6)] | None = None


@dataclass(frozen=True, kw_only=True)
class PluginCard:
    """The header of a plugin file: one line per key, with its bounds; the same on writing as on reading.

    Nothing in it names a file, program or address of the machine it is read on. A new key has a default, so that
    plugins written before stay readable; what it holds is a frozen dataclass, or plain data that follow one
    (:mod:`anymc3d.plugins.card_schema`).
    """

    name: Label
    labels: LabelSettings
    modality: Modality
    preprocessing: Annotated[Mapping[str, ViewSettings], Length(16)]
    """View -> how its slices are made."""
    backbone: BackboneRecord | None
    """None of a baseline or plain plugin; of an ensemble that of its first member that has one."""
    method: MethodSettings
    fusion: Entry
    features: Entry = "class"
    """What of the backbone's answer stands for a slice, an entry of ``anymc3d.models.features.FEATURES``."""
    structures: Annotated[tuple[Annotated[int, Between(1, HIGHEST_LABEL)], ...], Length(MAX_STRUCTURES)] = ()
    """Labels of the segmentation that a new case needs as well; none: it needs no segmentation."""
    plain: PlainRecord | None = None
    """Of a plain plugin: the measures it takes, and how."""
    number: NumberScale | None = None
    """Of a label that is a number: mean and spread of the training cases, in whose units the network answers."""
    covariates: CovariateRecord | None = None
    """Clinical columns that answer beside the image; of an ensemble its members have their own."""
    code_version: Annotated[int, Between(0, 10**6)]
    """Of the preprocessing code; another version would prepare other slices."""
    segmentation: SegmentationSettings | None = None
    """How it learned from masks, with its structures' labels; None = it did not. ``keep``: the decoder is here."""
    intensities: Annotated[Mapping[str, Any], As(Mapping[Column, IntensitySummary])] = field(default_factory=dict)
    """Image column -> summary of the training scans' intensity profiles, in raw units."""
    scan_statistics: ScanStatistics | None = None
    """Of the training scans, from which ``predict`` says how unlike them a scan is; None in older plugins, of an
    ensemble (its members have them), and of fewer training cases than that takes."""
    operating_points: Annotated[tuple[Mapping[str, Any], ...], As(tuple[OperatingPoint, ...])] = ()
    """One per label: name, criterion, threshold on the raw logit, the split it was chosen on and its counts."""
    calibration: TaskCalibration | None = None
    """Of the raw logits; of an ensemble: of the mean of its members' calibrated logits, None = taken as it is."""
    prediction_sets: PredictionSets | None = None
    """How conformal prediction sets are made of the raw logits (of an ensemble: of the mean calibrated ones)."""
    metrics: Annotated[tuple[Mapping[str, Any], ...], As(tuple[MetricRow, ...])] = ()
    """Rows of ``metrics.csv`` on the validation split."""
    out_of_fold: Annotated[tuple[Mapping[str, Any], ...], As(tuple[MetricRow, ...])] = ()
    """Rows of ``metrics.csv`` over cases each of which was answered by a fit that never saw it (``--quick``, ``auto``,
    members on several splits); :mod:`anymc3d.plugins.evidence`. None in older plugins, and of one split."""
    split: Annotated[Mapping[str, Any], As(SplitRecord)] = field(default_factory=dict)
    """Numbers of cases and patients per split, and the salted hash of the training split."""
    training: Annotated[Mapping[str, Any], As(Mapping[Entry, Fact])] = field(default_factory=dict)
    """The recipe, and the software it ran on. For people: nothing is computed from it."""
    tensors_sha256: Annotated[str, Form(r"([0-9a-f]{64})?", "64 hexadecimal digits")] = ""
    """Of the tensors as stored; written when the file is."""
    licence: Note = "unspecified"
    intended_use: Note = INTENDED_USE
    """The maker's words; what this program says of use stands beside them, see ``INTENDED_USE``."""
    kind: Literal["plugin", "ensemble", "baseline", "plain"] = "plugin"
    members: Annotated[tuple[Member, ...], Length(MAX_MEMBERS)] = ()
    """Of an ensemble, in the order of its tensors."""
    format_version: int = PLUGIN_FORMAT

    def __post_init__(self) -> None:
        check_view_names(self.preprocessing)
        # A view that says nothing of it was recorded before there was a choice, and keeps its answers.
        views = {
            name: view if view.statistics else replace(view, statistics="backbone")
            for name, view in self.preprocessing.items()
        }
        object.__setattr__(self, "preprocessing", views)
        _check_references(self.preprocessing, self.method)
        if bool(self.members) != (self.kind == "ensemble"):
            raise UsageError(f"members: expected some in an ensemble only, got {len(self.members)} in a {self.kind}")
        if self.kind != "ensemble" and (self.backbone is None) != (self.kind in ("baseline", "plain")):
            raise UsageError(
                f"backbone: a plugin has one, a baseline or plain plugin none, got "
                f"{'none' if self.backbone is None else self.backbone.name} in a {self.kind}"
            )
        if (self.plain is None) == (self.kind == "plain"):
            raise UsageError(f"plain: expected in a plain plugin alone, got kind {self.kind}")
        self._check_answer()
        self._check_decisions()
        for index, member in enumerate(self.members):
            problems = member_differences(self, member.card)
            if problems:
                raise UsageError(f"members[{index}]: does not belong to this ensemble: {'; '.join(problems[:4])}")
        if len({member.card.calibration is None for member in self.members}) > 1:
            raise UsageError("members: expected a calibration in all of them or in none")
        self.thresholds  # noqa: B018 - checks them

    def _check_answer(self) -> None:
        """What a number has and has not, and whose covariates there are.

        Raises:
            UsageError: they do not fit the labels.
        """
        if (self.number is not None) != (self.labels.is_number and not self.members):
            raise UsageError(f"number: expected of a regression alone, got labels of kind {self.labels.kind}")
        if self.labels.is_number and (self.calibration is not None or self.operating_points):
            raise UsageError("calibration, operating_points: a number has none")
        if self.covariates is not None:
            if self.members:
                raise UsageError("covariates: of an ensemble each member has its own")
            self.covariates.check_fits(len(self.labels.output_names), one_of_classes=self.labels.one_of_classes)

    def _check_decisions(self) -> None:
        """Refuse a calibration or prediction sets of other labels."""
        if self.calibration is not None:
            self.calibration.check_fits(self.labels, self.thresholds)
        if self.prediction_sets is not None:
            self.prediction_sets.check_fits(self.labels)

    @property
    def decodes(self) -> bool:
        """Whether the plugin holds its decoders, or all members of the ensemble theirs, of the same structures."""
        if self.members:
            classes = {member.card.segmentation and member.card.segmentation.classes for member in self.members}
            share_structures = len(classes) == 1 and not self.is_mixed
            return share_structures and all(member.card.decodes for member in self.members)
        return self.segmentation is not None and self.segmentation.keep

    @property
    def holds_network(self) -> bool:
        """Whether the file holds all there is of its networks: it names no backbone."""
        return self.backbone is None

    @cached_property
    def why_no_heatmap(self) -> str:
        """In words; "" where heatmaps can be drawn: from one backbone's attention between class token and patches."""
        if self.is_mixed:
            return "its members see other slices or are of other kinds, and share no attention that could be shown"
        if self.kind == "plain" or any(member.card.kind == "plain" for member in self.members):
            return f"method {self.method.name} has no network whose attention could be shown"
        if self.holds_network:
            return f"method {self.method.name} has no backbone whose attention could be shown"
        features = self.members[0].card.features if self.members else self.features
        return "" if features == "class" else f"it sees {features}, and attention is that of the class token alone"

    @cached_property
    def is_mixed(self) -> bool:
        """Whether it is an ensemble whose members see other slices, or are of other kinds or representations."""
        return len({_sight(member.card) for member in self.members}) > 1

    @property
    def covariate_names(self) -> tuple[str, ...]:
        """Columns that the plugin, or a member, takes beside the image, each once."""
        records = [card.covariates for card in (self, *(member.card for member in self.members))]
        return tuple(dict.fromkeys(name for record in records if record is not None for name in record.names))

    @property
    def sees_slices(self) -> bool:
        """Whether it takes prepared slices; a plain plugin that measures the scan as it was stored takes none."""
        if self.members:
            return any(member.card.sees_slices for member in self.members)
        return self.plain is None or not self.plain.measures

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
    def knows_its_scans(self) -> bool:
        """Whether it, or every member of the ensemble, has statistics of its training scans that are read today."""
        if self.members:
            return all(member.card.knows_its_scans for member in self.members)
        return self.scan_statistics is not None and self.scan_statistics.are_current

    @property
    def holds_calibration(self) -> bool:
        """Whether there is any map from logits to probabilities; of an ensemble: its own or those of all members."""
        if self.calibration is not None:
            return True
        return bool(self.members) and all(member.card.holds_calibration for member in self.members)

    @property
    def calibration_states(self) -> dict[str, State]:
        """Label -> what may be said of its probabilities; of an ensemble its own, or the least of its members'."""
        if self.calibration is not None:
            return self.calibration.states(self.labels)
        of_members = [member.card.calibration_states for member in self.members]
        return {
            name: min((states[name] for states in of_members), key=STATES.index, default="none")
            for name in self.labels.output_names
        }

    @property
    def is_calibrated(self) -> bool:
        """Whether the probabilities of all labels were fitted, slope and shift, to enough outcomes."""
        return set(self.calibration_states.values()) == {"calibrated"}

    @property
    def logits_id(self) -> str:
        """Equal for plugins that give equal logits: the tensors, and in an ensemble the members' calibrations."""
        if not self.members and self.covariates is None and self.number is None:
            return self.tensors_sha256
        maps: list[Any] = [to_plain(member.card.calibration) for member in self.members]
        records = [
            to_plain(card.covariates) for card in (self, *(member.card for member in self.members)) if card.covariates
        ]
        maps += [records] if records else []
        scales = [to_plain(card.number) for card in (self, *(member.card for member in self.members)) if card.number]
        maps += [scales] if scales else []
        weights = [member.weight for member in self.members]
        maps += [] if set(weights) == {1.0} else [weights]
        return hashlib.sha256(f"{self.tensors_sha256}{json.dumps(maps, sort_keys=True)}".encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Member:
    """One plugin of an ensemble: its whole card and the hash its file had."""

    card: PluginCard
    hash: Annotated[str, _DIGEST]
    weight: Annotated[float, Between(0, 1e6)] = 1.0
    """How much its calibrated logit counts in the mean."""


def _check_references(views: Mapping[str, ViewSettings], method: MethodSettings) -> None:
    """A card names nothing on the machine it is read on: no program, no path, no address.

    Raises:
        UsageError: it does.
    """
    for name, view in views.items():
        if view.roi is not None:
            _check_region(f"preprocessing.{name}.roi", view.roi)
    if method.weights not in (None, "random"):
        raise UsageError(f"method.weights: expected null or random in a plugin, got '{shown(method.weights)}'")


def _check_region(place: str, roi: RoiSettings) -> None:
    if roi.program not in (None, _PROGRAM):
        raise UsageError(
            f"{place}.program: expected null or {_PROGRAM} in a plugin, got '{shown(roi.program)}'; no file that is "
            "only data may name a program (give it with --segmenter)"
        )
    if roi.model is not None and not _MODEL.fullmatch(roi.model):
        raise UsageError(
            f"{place}.model: expected sha256: and 64 digits in a plugin, got '{shown(roi.model)}'; no path and no "
            "address (give the network's file with --segmenter)"
        )


def member_differences(card: PluginCard, other: PluginCard) -> list[str]:
    """What keeps two plugins out of one ensemble, one line each: they must answer the same labels of the same scans."""
    if other.kind == "ensemble":
        return [f"it is of kind {other.kind!r}; give plugins, of an ensemble its members"]
    return list(differing(_common(card), _common(other)))


def _common(card: PluginCard) -> dict[str, Any]:
    return {"labels": to_plain(card.labels), "modality": card.modality, "code_version": card.code_version}


def _sight(card: PluginCard) -> str:
    """Equal for plugins that see the same slices through the same backbone, in the same representation."""
    backbone = to_plain(card.backbone) or {}
    facts = {
        "kind": card.kind,
        "preprocessing": to_plain(card.preprocessing),
        "features": card.features,
        "backbone": {key: value for key, value in backbone.items() if key not in _FREE_OF_BACKBONE},
    }
    return json.dumps(facts, sort_keys=False)
