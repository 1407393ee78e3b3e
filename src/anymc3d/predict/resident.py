"""Plugins in memory: the classifiers of each on one backbone per fingerprint, and how slices go through them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from torch import nn

from anymc3d.cost.device import ran_out_of_memory
from anymc3d.data.case_scans import CaseScans, PreparedCase
from anymc3d.data.covariates import MEASURE
from anymc3d.data.prefetch.needs import Needs
from anymc3d.data.preprocess import CODE_VERSION, PreparedView
from anymc3d.errors import PluginError, UsageError
from anymc3d.models.build import Classifier
from anymc3d.models.classifier import Encoding, PackedSlices, VolumeClassifier
from anymc3d.models.store import LoadedBackbone, find_backbone, find_by_fingerprint
from anymc3d.plugins import Plugin
from anymc3d.plugins.card import BackboneRecord, PluginCard
from anymc3d.predict.upload import on_device
from anymc3d.settings.views import ViewSettings

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


@dataclass(frozen=True, eq=False)
class ResidentMember:
    """One plugin that answers by itself. ``encoding`` says how slices go through the backbone; a baseline has none."""

    card: PluginCard
    classifier: Classifier
    backbone: LoadedBackbone | None
    encoding: Encoding

    @property
    def network(self) -> nn.Module | None:
        """The backbone as classifiers are called with it."""
        return None if self.backbone is None else self.backbone.module

    @property
    def is_frozen(self) -> bool:
        """Whether it changes nothing inside the backbone, so that others may share its pass."""
        return isinstance(self.classifier, VolumeClassifier) and not self.classifier.lora

    @property
    def has_class_tokens(self) -> bool:
        """Whether its embeddings are the class tokens of the backbone, adapted or not."""
        return isinstance(self.classifier, VolumeClassifier) and self.card.features == "class"

    def within_memory(self, case: str, run: Callable[[Encoding], Result]) -> Result:
        """What ``run`` gives with the member's encoding. Where the slices of a call do not fit in memory, half as many
        are tried: that changes memory and time, not the answer."""
        encoding = self.encoding
        while True:
            try:
                return run(encoding)
            except RuntimeError as error:
                if not ran_out_of_memory(error) or encoding.chunk_size == 1 or self.network is None:
                    raise
            fewer = encoding.chunk_size // 2
            text = "case %r: not enough memory for %d slices at once, tried again with %d (--chunk-size)"
            logger.warning(text, case, encoding.chunk_size, fewer)
            encoding = replace(encoding, chunk_size=fewer)
            if torch.cuda.is_initialized():
                torch.cuda.empty_cache()


@dataclass(frozen=True, eq=False)
class Resident:
    """A plugin with its members (itself alone, unless it is an ensemble). Members of one plugin may see other slices,
    stand on other backbones or be of another kind."""

    plugin: Plugin
    members: tuple[ResidentMember, ...]

    @property
    def backbone(self) -> LoadedBackbone | None:
        """Of the first member; all have it, unless the ensemble is mixed."""
        return self.members[0].backbone

    @property
    def encoding(self) -> Encoding:
        """Of the first member."""
        return self.members[0].encoding

    @property
    def network(self) -> nn.Module | None:
        """Of the first member."""
        return self.members[0].network

    def within_memory(self, case: str, run: Callable[[Encoding], Result]) -> Result:
        """As :meth:`ResidentMember.within_memory`, of the first member."""
        return self.members[0].within_memory(case, run)


def residents_of(
    plugins: Sequence[Plugin], *, backbone: str | None, device: torch.device, encoding: Encoding
) -> list[Resident]:
    """Every plugin on its backbone, which those of one fingerprint share.

    Raises:
        UsageError, PluginError, BackboneError: one cannot be used, or its backbone is not at hand.
    """
    if not plugins:
        raise UsageError("expected at least one plugin, got none")
    _check_names(plugins)
    _check_backbone(plugins, backbone)
    loaded: dict[tuple[str, str], LoadedBackbone] = {}
    return [_resident(plugin, loaded, backbone, device, encoding) for plugin in plugins]


def _resident(
    plugin: Plugin,
    loaded: dict[tuple[str, str], LoadedBackbone],
    backbone: str | None,
    device: torch.device,
    encoding: Encoding,
) -> Resident:
    """The plugin on its backbones, which ``loaded`` keeps for the next one."""
    return Resident(plugin, tuple(_member(member, loaded, backbone, device, encoding) for member in plugin.members))


def _member(
    plugin: Plugin,
    loaded: dict[tuple[str, str], LoadedBackbone],
    backbone: str | None,
    device: torch.device,
    encoding: Encoding,
) -> ResidentMember:
    record, shared = plugin.card.backbone, None
    if record is not None:
        key = (record.fingerprint, record.positions)
        if key not in loaded:
            loaded[key] = _backbone_of(plugin, backbone)
            loaded[key].module.to(device)
        shared = loaded[key]
        _check_record(plugin, record, shared)
        encoding = replace(encoding, mean=record.mean, std=record.std)
    network = (None, None) if shared is None else (shared.module, shared.fingerprint)
    return ResidentMember(plugin.card, plugin.build(*network).to(device), shared, encoding)


def prepared_for(card: PluginCard, scans: CaseScans) -> PreparedCase:
    """The slices of a case that a plugin sees; of one that sees none, what is known of the scans.

    Raises:
        ScanError: a scan cannot be read or used.
    """
    # What a plugin of measures alone does not see still shows whether a scan is like its training scans.
    needed = card.sees_slices or card.knows_its_scans
    return scans.prepare(card.preprocessing) if needed else scans.measured(card.preprocessing)


def packed(views: Mapping[str, ViewSettings], prepared: PreparedCase, device: torch.device) -> dict[str, PackedSlices]:
    """The prepared slices of one case as a classifier takes them; a view it lacks has no slices."""
    return {name: packed_view(prepared.views[name], view, device) for name, view in views.items()}


def packed_view(prepared: PreparedView | None, view: ViewSettings, device: torch.device) -> PackedSlices:
    """The slices of one view."""
    if prepared is None:
        height, width, _ = view.size
        return PackedSlices(torch.zeros(0, view.num_channels, height, width, device=device), (0,))
    slices = on_device(prepared.slices, device)
    return PackedSlices(slices, (slices.shape[0],))


def _backbone_of(plugin: Plugin, backbone: str | None) -> LoadedBackbone:
    record = plugin.card.backbone
    if record is None:
        raise PluginError(f"plugin {plugin.card.name!r} has no backbone")
    if backbone is not None:
        return find_backbone(backbone, position_rule=record.positions)
    return find_by_fingerprint(record.fingerprint, hint_name=record.name, position_rule=record.positions)


def _check_record(plugin: Plugin, record: BackboneRecord, backbone: LoadedBackbone) -> None:
    """What the plugin says of its backbone is what the backbone says of itself: another mean or standard deviation
    would change every answer.

    Raises:
        PluginError: with both values of what differs.
    """
    compared = {
        "embed_dim": (record.embed_dim, backbone.module.embed_dim),
        "patch_size": (record.patch_size, backbone.module.patch_size),
        "mean": (record.mean, backbone.card.mean),
        "std": (record.std, backbone.card.std),
    }
    wrong = [
        f"{name} {recorded}, the backbone's own {found_here}"
        for name, (recorded, found_here) in compared.items()
        if not _equal(recorded, found_here)
    ]
    if wrong:
        raise PluginError(
            f"plugin {plugin.card.name!r}: its record of backbone {record.name!r} says {'; '.join(wrong)}; the plugin "
            "was changed, or these weights were imported without their preprocessor_config.json: import them with it"
        )


def _equal(here: object, there: object) -> bool:
    return bool(np.allclose(np.asarray(here, dtype=float), np.asarray(there, dtype=float), rtol=0, atol=1e-6))


def _check_backbone(plugins: Sequence[Plugin], backbone: str | None) -> None:
    """Refuse a backbone for plugins that have none."""
    if backbone is not None and all(plugin.card.holds_network for plugin in plugins):
        names = ", ".join(repr(plugin.card.name) for plugin in plugins)
        raise UsageError(f"--backbone: {names} holds all its weights and takes no backbone; leave the option out")


def _check_names(plugins: Sequence[Plugin]) -> None:
    names = [plugin.card.name for plugin in plugins]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        named = ", ".join(map(repr, twice))
        raise UsageError(
            f"expected plugins of different names, but got {named} twice; NAME=FILE gives one another name"
        )
    for plugin in plugins:
        if plugin.card.code_version != CODE_VERSION:
            raise PluginError(
                f"plugin {plugin.card.name!r} was trained with preprocessing version {plugin.card.code_version}, "
                f"this program has version {CODE_VERSION}; use the program it was trained with, or train it again"
            )


def seen_views(cards: Sequence[PluginCard]) -> list[ViewSettings]:
    """The views of some plugins and of their members, each once."""
    members = [member.card for card in cards for member in card.members]
    return list(dict.fromkeys(view for card in [*cards, *members] for view in card.preprocessing.values()))


def needs_of(cards: Sequence[PluginCard], *, slices: bool = True, volumes: bool = False) -> Needs:
    """What some plugins ask of the scans of a case; without ``slices`` only what shows whether they are the same."""
    all_cards = [*cards, *(member.card for card in cards for member in card.members)]
    measured = any(name.startswith(MEASURE) for card in all_cards for name in card.covariate_names)
    return Needs(
        views=tuple(seen_views(cards)),
        slices=slices,
        masks=any(card.structures for card in all_cards),
        volumes=volumes or measured or any(card.plain is not None and bool(card.plain.measures) for card in all_cards),
    )
