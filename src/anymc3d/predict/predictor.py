"""Scans in, predictions out: the journey of one scan, from file to decision. The twin of ``anymc3d.train.fit``.

``load("plugin.safetensors").predict("scan.nii.gz")`` gives the record that is also a row of ``predictions.csv``.
Several plugins share one resident backbone per fingerprint and one read of each scan.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import nn

from anymc3d.cost.device import choose_device, choose_dtype, ran_out_of_memory
from anymc3d.data.case import Case, default_id
from anymc3d.data.dataset import CaseScans, PreparedCase
from anymc3d.data.in_memory import is_path
from anymc3d.data.preprocess import CODE_VERSION, PreparedView
from anymc3d.data.volume import Millimetres, Volume
from anymc3d.errors import AnyMC3DError, PluginError, UsageError
from anymc3d.evaluate import outputs
from anymc3d.evaluate.task_calibration import answer
from anymc3d.models.build import Classifier
from anymc3d.models.classifier import ClassifierOutput, Encoding, PackedSlices
from anymc3d.models.store import LoadedBackbone, find_backbone, find_by_fingerprint
from anymc3d.plugins import Plugin, load_plugin
from anymc3d.plugins.card import PluginCard
from anymc3d.predict.given import IN_MEMORY, Scan, volumes_and_references
from anymc3d.predict.likeness import unlike_training
from anymc3d.segmenters.build import build_segmenters
from anymc3d.settings.config import ViewSettings
from anymc3d.types import Status

logger = logging.getLogger(__name__)

DEFAULT_CHUNK = 64
CASE_FAULTS = (AnyMC3DError, MemoryError, RuntimeError)
"""What fails one case and not the others: its scans, memory, or torch refusing a computation."""

Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """One plugin's answer for one case; ``row()`` is its row in ``predictions.csv``."""

    case: str
    plugin: str
    status: Status
    message: str = ""
    """Warnings, or why there is no answer."""
    labels: tuple[str, ...] = ()
    logits: Mapping[str, float] = field(default_factory=dict)
    """Label -> raw logit (binary: the log-odds z1 - z0); of an ensemble the mean calibrated logit."""
    probabilities: Mapping[str, float] = field(default_factory=dict)
    calibrated: bool = False
    """Whether the probabilities were fitted to outcomes; uncalibrated they are only a squashed logit."""
    decisions: Mapping[str, int] = field(default_factory=dict)
    slice_weights: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """View -> weight of every slice in the view's order, adding up to 1; of an ensemble the members' mean. A baseline
    has none."""
    view_weights: Mapping[str, float] = field(default_factory=dict)
    unlike_training: tuple[str, ...] = ()
    """Of the warnings those that say that the scan is unlike the training scans: the answer is not to be used."""

    def row(self) -> dict[str, str]:
        """The cells of ``predictions.csv``; an error row has empty label cells."""
        cells = {"case": self.case, "plugin": self.plugin, "status": self.status, "message": self.message}
        if self.status == "error":
            return cells
        values = [
            np.array([part[name] for name in self.labels]) for part in (self.logits, self.probabilities, self.decisions)
        ]
        return cells | outputs.prediction_cells(self.labels, *values)


@dataclass(frozen=True)
class Resident:
    """A plugin with the classifiers of its members (its own alone, unless it is an ensemble) and their backbone.

    ``encoding`` says how slices go through the backbone; a baseline has none.
    """

    plugin: Plugin
    members: tuple[tuple[PluginCard, Classifier], ...]
    backbone: LoadedBackbone | None
    encoding: Encoding

    @property
    def network(self) -> nn.Module | None:
        """The backbone as classifiers are called with it."""
        return None if self.backbone is None else self.backbone.module


class Predictor:
    """Plugins, ready to predict.

    Args:
        plugins: several may belong to one backbone, which is then held once; baselines need none.
        backbone: a name, folder or file; by default each plugin's own, found by fingerprint in the local store.
        device: auto, cpu, cuda or cuda:N.
        precision: of the backbone's arithmetic: fp32 (the reference), bf16, or auto (bf16 where it is native).
        chunk_size: slices per backbone call; changes memory, not the result.
        segmenters: for plugins whose views show a region: the file of the network that draws it, where the local store
            does not have it, or the TotalSegmentator program.

    Raises:
        PluginError, BackboneError: a plugin cannot be used, or its backbone is not at hand.
    """

    def __init__(
        self,
        plugins: Sequence[Plugin],
        *,
        backbone: str | None = None,
        device: str = "auto",
        precision: str = "fp32",
        chunk_size: int = DEFAULT_CHUNK,
        segmenters: Sequence[str | Path] = (),
    ) -> None:
        if not plugins:
            raise UsageError("expected at least one plugin, got none")
        _check_names(plugins)
        _check_backbone(plugins, backbone)
        views = [view for plugin in plugins for view in plugin.card.preprocessing.values()]
        self._segmenters = build_segmenters(views, given=segmenters, program_needed=False)
        self.device = choose_device(device)
        dtype = choose_dtype(precision, self.device)
        loaded: dict[tuple[str, str], LoadedBackbone] = {}
        self.residents = [
            self._resident(plugin, loaded, backbone, Encoding(chunk_size=chunk_size, dtype=dtype)) for plugin in plugins
        ]

    def _resident(
        self, plugin: Plugin, loaded: dict[tuple[str, str], LoadedBackbone], given: str | None, encoding: Encoding
    ) -> Resident:
        """The plugin on its backbone, which ``loaded`` keeps for the next one."""
        record, shared = plugin.card.backbone, None
        if record is not None:
            key = (record.fingerprint, record.positions)
            if key not in loaded:
                loaded[key] = _backbone_of(plugin, given)
                loaded[key].module.to(self.device)
            shared = loaded[key]
            encoding = replace(encoding, mean=record.mean, std=record.std)
        network = (None, None) if shared is None else (shared.module, shared.fingerprint)
        members = tuple((member.card, member.build(*network).to(self.device)) for member in plugin.members)
        return Resident(plugin, members, shared, encoding)

    @property
    def plugins(self) -> tuple[Plugin, ...]:
        """The plugins, in the order they were given."""
        return tuple(resident.plugin for resident in self.residents)

    def predict(
        self,
        scan: Scan | None = None,
        *,
        views: Mapping[str, Scan] | None = None,
        case: str | None = None,
        spacing: Millimetres | None = None,
        affine: ArrayLike | None = None,
        series: str | None = None,
        mask: str | Path | None = None,
        center: tuple[float, float, float] | None = None,
    ) -> Prediction | list[Prediction]:
        """Predict one study: one scan, or ``views`` = view -> scan. One plugin gives one prediction, several a list.

        A scan is a path, or in memory: a NumPy array or torch tensor with its ``spacing`` (mm along its axes, which are
        then right, anterior, superior) or its ``affine`` (4, 4, to RAS mm), an image of nibabel or SimpleITK, or a
        ``Volume``. ``mask`` and ``center`` (RAS, mm) are for plugins whose views show an organ or a point, as in the
        manifest.

        Raises:
            UsageError: what was given is no scan, or an array without spacing and affine.
            ScanError: the scan cannot be read or used (:meth:`predict_case` gives a prediction with status error).
        """
        if mask is not None and not is_path(mask):
            raise UsageError(f"mask: expected the path of a file, got {type(mask).__name__}; save it beside the scan")
        volumes, references = volumes_and_references(scan, views, spacing, affine)
        at_hand = references.pop("", None)
        study = study_case(
            at_hand, references or None, case=case, spacing=spacing, series=series, mask=mask, center=center
        )
        scans = self.scans(study, volumes)
        predictions = [self.predict_scans(resident, study, scans) for resident in self.residents]
        return predictions[0] if len(predictions) == 1 else predictions

    def predict_case(self, case: Case) -> list[Prediction]:
        """Predict a manifest's case with every plugin; a failure is a prediction with status ``error``."""
        scans = self.scans(case)
        return [self._guarded(resident, case, scans) for resident in self.residents]

    def scans(self, case: Case, volumes: Mapping[str, Volume] | None = None) -> CaseScans:
        """The scans of a case, each read at most once, as the plugins take them; ``volumes``: those in memory, by
        image column."""
        fitted = self._fitted(case)
        if volumes and set(fitted.images) != set(case.images):
            volumes = dict.fromkeys(fitted.images, volumes["image"])
        return CaseScans(fitted, segmenters=self._segmenters, volumes=volumes)

    def _fitted(self, case: Case) -> Case:
        """A lone scan stands for whatever one column the plugins were trained on."""
        wanted = {view.image for plugin in self.plugins for view in plugin.card.preprocessing.values()}
        if set(case.images) == {"image"} and len(wanted) == 1:
            return replace(case, images={wanted.pop(): case.images["image"]})
        return case

    def _guarded(self, resident: Resident, case: Case, scans: CaseScans) -> Prediction:
        try:
            return self.predict_scans(resident, case, scans)
        except CASE_FAULTS as error:
            message = fault_of(error, case)
        card = resident.plugin.card
        return Prediction(
            case=case.id, plugin=card.name, status="error", message=message, labels=card.labels.output_names
        )

    def _runs(
        self, resident: Resident, case: Case, batch: Mapping[str, PackedSlices]
    ) -> list[tuple[PluginCard, ClassifierOutput]]:
        """What each member says, one after the other: only one set of adapted weights is in memory at a time."""

        def run(encoding: Encoding) -> list[tuple[PluginCard, ClassifierOutput]]:
            with torch.inference_mode():
                return [
                    (member, classifier(resident.network, batch, encoding)) for member, classifier in resident.members
                ]

        return self.within_memory(resident, case, run)

    def within_memory(self, resident: Resident, case: Case, run: Callable[[Encoding], Result]) -> Result:
        """What ``run`` gives with the plugin's encoding. Where the slices of a call do not fit in memory, half as many
        are tried: that changes memory and time, not the answer."""
        encoding = resident.encoding
        while True:
            try:
                return run(encoding)
            except RuntimeError as error:
                if not ran_out_of_memory(error) or encoding.chunk_size == 1 or resident.network is None:
                    raise
            fewer = encoding.chunk_size // 2
            text = "case %r: not enough memory for %d slices at once, tried again with %d (--chunk-size)"
            logger.warning(text, case.id, encoding.chunk_size, fewer)
            encoding = replace(encoding, chunk_size=fewer)
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def predict_scans(self, resident: Resident, case: Case, scans: CaseScans) -> Prediction:
        """What one plugin says of one case whose scans are at hand.

        Raises:
            ScanError: a scan cannot be read or used.
            PluginError: a logit is not finite.
        """
        card = resident.plugin.card
        prepared = scans.prepare(card.preprocessing)
        batch = self.batch(card, prepared)
        runs = self._runs(resident, case, batch)
        logits = _task_logits(card, runs)
        if not np.isfinite(logits).all():
            raise PluginError(f"plugin {card.name!r} gave a logit that is not finite for case {case.id!r}")
        found = answer(logits, card.labels.kind, card.thresholds, card.calibration)
        names = card.labels.output_names
        unlike = unlike_training(card, prepared.scans)
        warnings = [*prepared.warnings, *_missing_views(prepared), *unlike]
        return Prediction(
            case=case.id,
            plugin=card.name,
            status="warn" if warnings else "ok",
            message="; ".join(" ".join(text.split()) for text in warnings),
            labels=names,
            logits=dict(zip(names, logits[0].tolist(), strict=True)),
            probabilities=dict(zip(names, found.probabilities[0].tolist(), strict=True)),
            calibrated=card.is_calibrated,
            decisions=dict(zip(names, found.decisions[0].tolist(), strict=True)),
            slice_weights={
                name: tuple(torch.stack([run.slice_weights[name][0] for _, run in runs]).mean(dim=0).tolist())
                for name in card.views
                if batch[name].counts[0] and name in runs[0][1].slice_weights
            },
            view_weights=_view_weights(card, runs),
            unlike_training=unlike,
        )

    def batch(self, card: PluginCard, prepared: PreparedCase) -> dict[str, PackedSlices]:
        """The prepared slices of one case as the classifier takes them; a view it lacks has no slices."""
        return {name: self._packed(prepared.views[name], view) for name, view in card.preprocessing.items()}

    def _packed(self, prepared: PreparedView | None, view: ViewSettings) -> PackedSlices:
        if prepared is None:
            height, width, _ = view.size
            return PackedSlices(torch.zeros(0, view.num_channels, height, width, device=self.device), (0,))
        slices = torch.from_numpy(prepared.slices).to(self.device)
        return PackedSlices(slices, (slices.shape[0],))


def load(
    plugin: str | Path | Sequence[str | Path],
    *,
    backbone: str | None = None,
    device: str = "auto",
    precision: str = "fp32",
    segmenters: Sequence[str | Path] = (),
) -> Predictor:
    """Load one plugin file or several into one predictor; see :class:`Predictor`."""
    paths = [plugin] if isinstance(plugin, (str, Path)) else list(plugin)
    plugins = [load_plugin(path) for path in paths]
    return Predictor(plugins, backbone=backbone, device=device, precision=precision, segmenters=segmenters)


def study_case(
    scan: str | Path | None,
    views: Mapping[str, str | Path] | None,
    *,
    case: str | None = None,
    spacing: tuple[float, float, float] | None = None,
    series: str | None = None,
    mask: str | Path | None = None,
    center: tuple[float, float, float] | None = None,
) -> Case:
    """A case that no manifest names: one scan, or several views of one study.

    ``series``, ``mask``, ``center``: as in the manifest's columns of that name.

    Raises:
        UsageError: neither or both were given.
    """
    if (scan is None) == (not views):
        raise UsageError("expected one scan, or views of one study, and not both")
    images = {"image": str(scan)} if scan is not None else {f"image.{name}": str(path) for name, path in views.items()}
    name = case or default_id(next((path for path in images.values() if path != IN_MEMORY), IN_MEMORY))
    return Case(
        id=name,
        patient=name,
        images=images,
        masks={} if mask is None else {"mask": str(mask)},
        cells={"series": series} if series else {},
        split=None,
        fold=None,
        spacing=spacing,
        center=center,
        row=0,
    )


def fault_of(error: BaseException, case: Case, *, in_chunks: bool = True) -> str:
    """What the outputs say of a case that failed with one of ``CASE_FAULTS``: one line without a path.

    ``in_chunks``: smaller chunks were tried, or would have been.
    """
    if isinstance(error, AnyMC3DError):
        return _without_paths(error, case)
    advice = "; more memory is needed" + ", also with --chunk-size 1" * in_chunks if ran_out_of_memory(error) else ""
    return f"cannot be used ({type(error).__name__}: {_without_paths(error, case)[:300]}){advice}"


def _without_paths(error: BaseException, case: Case) -> str:
    """One line, a scan named by its manifest column: a path or file name may tell who the patient is."""
    text = " ".join(str(error).split())
    for column, reference in (*case.images.items(), *case.masks.items()):
        text = text.replace(reference, column)
    return text


def _backbone_of(plugin: Plugin, given: str | None) -> LoadedBackbone:
    record = plugin.card.backbone
    if record is None:
        raise PluginError(f"plugin {plugin.card.name!r} has no backbone")
    if given is not None:
        return find_backbone(given, position_rule=record.positions)
    return find_by_fingerprint(record.fingerprint, hint_name=record.name, position_rule=record.positions)


def _check_backbone(plugins: Sequence[Plugin], given: str | None) -> None:
    """Refuse a backbone for plugins that have none."""
    if given is not None and all(plugin.card.holds_network for plugin in plugins):
        names = ", ".join(repr(plugin.card.name) for plugin in plugins)
        raise UsageError(f"--backbone: {names} holds all its weights and takes no backbone; leave the option out")


def _check_names(plugins: Sequence[Plugin]) -> None:
    names = [plugin.card.name for plugin in plugins]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"expected plugins of different names, but {', '.join(map(repr, twice))} came twice")
    for plugin in plugins:
        if plugin.card.code_version != CODE_VERSION:
            raise PluginError(
                f"plugin {plugin.card.name!r} was trained with preprocessing version {plugin.card.code_version}, "
                f"this program has version {CODE_VERSION}; use the program it was trained with, or train it again"
            )


def _task_logits(card: PluginCard, runs: Sequence[tuple[PluginCard, ClassifierOutput]]) -> np.ndarray:
    """Logits (1, labels) of one case: raw, or the mean of an ensemble's calibrated ones (supplement D)."""
    raw = [outputs.raw_logits(run.logits.cpu().numpy(), card.labels.kind) for _, run in runs]
    if card.kind != "ensemble":
        return raw[0]
    maps = [member.calibration for member, _ in runs]
    return np.mean([own if one is None else one.apply(own) for own, one in zip(raw, maps, strict=True)], axis=0)


def _view_weights(card: PluginCard, runs: Sequence[tuple[PluginCard, ClassifierOutput]]) -> dict[str, float]:
    by_name = [dict(zip(member.views, run.view_weights[0].tolist(), strict=True)) for member, run in runs]
    return {name: float(np.mean([weights[name] for weights in by_name])) for name in card.views}


def _missing_views(prepared: PreparedCase) -> list[str]:
    missing = [name for name, view in prepared.views.items() if view is None]
    there = [name for name, view in prepared.views.items() if view is not None]
    return [f"view {name} is missing: predicted from {', '.join(there)} alone" for name in missing]
