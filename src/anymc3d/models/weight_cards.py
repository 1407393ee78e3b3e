"""Which card weights get: by their name, by their fingerprint, or one made for weights that the table does not know."""

from __future__ import annotations

from anymc3d.errors import BackboneError
from anymc3d.models.architectures import architecture
from anymc3d.models.backbone_protocol import BackboneConfig
from anymc3d.models.backbones import BACKBONES, BackboneCard, family_normalisation
from anymc3d.models.weight_files import Normalisation


def suggest_name(config: BackboneConfig, weights_fingerprint: str, path_name: str = "") -> str | None:
    """The table's name for weights: the published one, else the only one of this architecture that has no published
    weights, or of several the one that a file or folder is called after. None: no entry, or nothing says which.
    """
    same = same_architecture(config)
    published = [entry.name for entry in same if entry.fingerprint == weights_fingerprint]
    open_to = [entry for entry in same if entry.fingerprint is None]
    called = [entry.name for entry in open_to if path_name in (entry.name, entry.source.rpartition("/")[2])]
    return next(iter([*published, *called, *([open_to[0].name] if len(open_to) == 1 else [])]), None)


def same_architecture(config: BackboneConfig) -> list[BackboneCard]:
    """The entries of the table that are this network, whatever their weights."""
    return [entry for entry in BACKBONES.values() if entry.config == config and entry.origin != "random"]


def named_card(
    name: str, config: BackboneConfig, weights_fingerprint: str, normalisation: Normalisation | None = None
) -> BackboneCard:
    """The card of a name; the table's names promise an architecture, weights whose fingerprint is published, and what
    the weights expect.

    Raises:
        BackboneError: the weights break the promise.
    """
    if name not in BACKBONES:
        return _card_like(name, config, normalisation)
    entry = BACKBONES[name]
    if normalisation is not None and not _agrees(entry, normalisation):
        raise BackboneError(
            f"these are not the weights of {name}: they expect mean {normalisation[0]} and standard deviation "
            f"{normalisation[1]}, {name} {entry.mean} and {entry.std}; give them another --name"
        )
    if entry.config != config:
        raise BackboneError(f"these are not the weights of {name}: expected {entry.config}, got {config}")
    if entry.fingerprint not in (None, weights_fingerprint):
        raise BackboneError(
            f"these are not the weights of {name}: expected {entry.fingerprint}, got {weights_fingerprint}"
        )
    return entry


def local_card(
    path_name: str, config: BackboneConfig, weights_fingerprint: str, normalisation: Normalisation | None
) -> BackboneCard:
    """The card of weights given by path: a path's name proves nothing, a published fingerprint does."""
    name = suggest_name(config, weights_fingerprint, path_name)
    if name is None:
        return _card_like("local", config, normalisation)
    fits = normalisation is None or _agrees(BACKBONES[name], normalisation)
    if BACKBONES[name].fingerprint == weights_fingerprint or (name == path_name and fits):
        return BACKBONES[name]
    return _card_like(f"{name}-local", config, normalisation)


def _agrees(entry: BackboneCard, normalisation: Normalisation) -> bool:
    pairs = zip((*entry.mean, *entry.std), (*normalisation[0], *normalisation[1]), strict=True)
    return all(abs(number - other) < 1e-3 for number, other in pairs)


def _card_like(name: str, config: BackboneConfig, normalisation: Normalisation | None = None) -> BackboneCard:
    """A card for weights that the table does not know; without a word of what they expect, their family's mean."""
    family = architecture(config).family(config)
    mean, std = normalisation or family_normalisation(family)
    return BackboneCard(
        name=name,
        title=f"{name}, unpublished weights in {family} architecture ({config})",
        family=family,
        config=config,
        licence="unknown",
        source="a local file",
        origin="local",
        mean=mean,
        std=std,
    )
