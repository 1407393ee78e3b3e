"""Where backbone weights are found: a local folder or file, then the store in the home folder. Never the network.

The store is ``<home>/backbones/<name>/`` with ``model.safetensors`` (canonical names) and ``record.json``. Weights
used from elsewhere are remembered in ``<home>/backbones/index.json`` (fingerprint -> path), so that a plugin's backbone
is found again; what is remembered is a hint, and the fingerprint is computed from the tensors at every load.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from anymc3d.errors import BackboneError, MissingWeightsError, did_you_mean
from anymc3d.files.atomic import replacing, write_json
from anymc3d.files.home import home_folder
from anymc3d.models.architectures import empty_backbone, random_backbone, with_position_rule
from anymc3d.models.backbone_protocol import Backbone, BackboneConfig
from anymc3d.models.backbones import BACKBONES, BackboneCard
from anymc3d.models.fingerprint import fingerprint, trunk_fingerprint
from anymc3d.models.vit_positions import PositionRule
from anymc3d.models.weight_cards import local_card, named_card
from anymc3d.models.weight_files import Normalisation, as_normalisation, file_sha256, read_normalisation, read_weights

logger = logging.getLogger(__name__)

NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadedBackbone:
    """A frozen backbone, in evaluation mode, with what is known of it."""

    module: Backbone
    card: BackboneCard
    fingerprint: str
    source: str
    """The file the weights were read from; for messages, not for records that leave the machine."""
    _trunks: dict[int, str] = field(default_factory=dict, repr=False, compare=False)

    def trunk(self, seam: int) -> str:
        """The fingerprint of what it computes before block ``seam``, computed once."""
        if seam not in self._trunks:
            self._trunks[seam] = trunk_fingerprint(self.module, seam)
        return self._trunks[seam]


@dataclass(frozen=True, kw_only=True)
class Record:
    """``record.json``: what stands in the store."""

    name: str
    fingerprint: str
    file_sha256: str
    origin: str
    licence: str
    normalisation: Normalisation | None = None
    """What weights that the table does not know expect; None = their family's."""


def find_backbone(name_or_path: str, *, position_rule: PositionRule = "official") -> LoadedBackbone:
    """Load weights from a local folder or file, or by name from the store.

    Raises:
        BackboneError: they are not there (the message says how to get them), damaged, or not what the name promises.
    """
    path = Path(name_or_path).expanduser()
    if name_or_path in BACKBONES and BACKBONES[name_or_path].origin == "random":
        return _random(BACKBONES[name_or_path], position_rule)
    if path.exists() and not (name_or_path in BACKBONES and _holds_no_weights(path)):
        return _load(path, position_rule)
    if NAME_PATTERN.fullmatch(name_or_path):
        record = read_record(name_or_path)
        if record is not None:
            return _load_stored(record, position_rule)
        if name_or_path in BACKBONES:
            raise MissingWeightsError(f"the weights of {name_or_path} are not on this machine; {ways(name_or_path)}")
    known = [*BACKBONES, *(record.name for record in stored_records())]
    msg = f"backbone {name_or_path!r} is neither a file or folder nor a known name{did_you_mean(name_or_path, known)}"
    raise BackboneError(msg)


def find_by_fingerprint(wanted: str, hint_name: str, *, position_rule: PositionRule = "official") -> LoadedBackbone:
    """Load the weights a plugin was trained on: by the name it knows, else anything stored or remembered that fits.

    Raises:
        BackboneError: no weights with this fingerprint are on this machine.
    """
    if hint_name in BACKBONES and BACKBONES[hint_name].origin == "random":
        loaded = _random(BACKBONES[hint_name], position_rule)
        if loaded.fingerprint == wanted:
            return loaded
    for record in sorted(stored_records(), key=lambda record: record.name != hint_name):
        if record.fingerprint == wanted:
            return _load_stored(record, position_rule)
    for path in _remembered(wanted):
        try:
            loaded = _load(Path(path), position_rule)
        except BackboneError as error:
            _log.info("remembered backbone ignored: %s", error)
            continue
        if loaded.fingerprint == wanted:
            return loaded
        _log.info("remembered backbone ignored: %s now holds other weights", path)
    msg = f"the backbone this plugin was trained on ({hint_name}, {wanted}) is not on this machine; {ways(hint_name)}"
    raise MissingWeightsError(msg)


def ways(name: str) -> str:
    """How to get the weights of a backbone, in one sentence."""
    known = BACKBONES.get(name)
    if known is None:
        return "import them (anymc3d backbone import PATH --name NAME), or give their folder as backbone=FOLDER"
    if known.gated:
        or_else = ", or ask Meta for the .pth file" if known.family == "dinov3" else ""
        return (
            f"they are gated ({known.licence}): accept the terms at https://huggingface.co/{known.source}, then "
            f"HF_TOKEN=… anymc3d backbone get {name}; or download that repository{or_else} and run "
            f"anymc3d backbone import PATH --name {name}, or give the folder as backbone=FOLDER"
        )
    return (
        f"run anymc3d backbone get {name}, or anymc3d backbone import PATH --name {name}, "
        f"or give their folder as backbone=FOLDER"
    )


def save_backbone(
    name: str,
    config: BackboneConfig,
    tensors: Mapping[str, Tensor],
    *,
    origin: str,
    normalisation: Normalisation | None = None,
) -> Record:
    """Put canonical weights into the store under ``name``, in the precision they have.

    Raises:
        BackboneError: the name is not usable, promises another architecture, other weights or another
            ``normalisation``, or the store holds other weights under it.
    """
    if not NAME_PATTERN.fullmatch(name):
        raise BackboneError(f"expected a name of at most 64 lower-case letters, digits, '.', '_' and '-', got {name!r}")
    weights_fingerprint = fingerprint(tensors)
    entry = named_card(name, config, weights_fingerprint, normalisation)
    _warn_of_known_weights(name, weights_fingerprint)
    before = read_record(name)
    to_record = None if name in BACKBONES else normalisation
    if before is not None:
        _check_same(name, before, weights_fingerprint, to_record)
    if before is not None and _is_as_precise(before, tensors):
        if to_record is not None and before.normalisation is None:
            before = replace(before, normalisation=to_record)
            write_json(folder_of(name) / "record.json", asdict(before))
        return before
    folder = folder_of(name)
    try:
        with replacing(folder / "model.safetensors") as temporary:
            save_file({key: value.contiguous() for key, value in tensors.items()}, temporary)
        record = Record(
            name=name,
            fingerprint=weights_fingerprint,
            file_sha256=file_sha256(folder / "model.safetensors"),
            origin=origin,
            licence=entry.licence,
            normalisation=to_record,
        )
        write_json(folder / "record.json", asdict(record))
    except OSError as error:
        raise BackboneError(f"cannot write the store at {folder}: {error.strerror or error}") from error
    return record


def _warn_of_known_weights(name: str, weights_fingerprint: str) -> None:
    """Say whose weights they are where they are known under another name."""
    for card in BACKBONES.values():
        if card.fingerprint == weights_fingerprint and card.name != name:
            text = "these are the weights of %s (%s), kept as %s: --name %s keeps that name and licence in every plugin"
            logger.warning(text, card.name, card.licence, name, card.name)
            return


def _check_same(name: str, before: Record, weights_fingerprint: str, normalisation: Normalisation | None) -> None:
    """Refuse other weights, or another normalisation of them, under a name that is taken."""
    if before.fingerprint != weights_fingerprint:
        raise BackboneError(
            f"the store holds other weights as {name} ({before.fingerprint}); these are {weights_fingerprint}: "
            f"choose another --name, or remove {folder_of(name)} first"
        )
    if normalisation is not None and before.normalisation not in (None, normalisation):
        raise BackboneError(
            f"the store holds these weights as {name} with another mean and standard deviation "
            f"({before.normalisation}, now {normalisation}); choose another --name, or remove {folder_of(name)} first"
        )


def _is_as_precise(before: Record, tensors: Mapping[str, Tensor]) -> bool:
    """Whether the store holds an undamaged copy, which a half-precision one of the same weights must not replace."""
    try:
        verify_stored(before)
        stored = read_weights(folder_of(before.name))[1]
    except BackboneError:
        return False
    return all(stored[key].element_size() >= value.element_size() for key, value in tensors.items())


def verify_stored(record: Record) -> LoadedBackbone:
    """Check a stored backbone's file hash and fingerprint.

    Raises:
        BackboneError: either is not the recorded one.
    """
    file = folder_of(record.name) / "model.safetensors"
    loaded = _load_stored(record, "official")
    digest = file_sha256(file)
    if digest != record.file_sha256:
        raise BackboneError(f"{file} was changed: expected sha256 {record.file_sha256}, got {digest}")
    return loaded


def store_folder() -> Path:
    return home_folder() / "backbones"


def folder_of(name: str) -> Path:
    return store_folder() / name


def stored_names() -> list[str]:
    """Every name in the store, whether its record can be read or not."""
    folder = store_folder()
    return sorted(path.parent.name for path in folder.glob("*/record.json")) if folder.is_dir() else []


def stored_records() -> list[Record]:
    """Every readable record of the store, by name."""
    records = []
    for name in stored_names():
        try:
            record = read_record(name)
        except BackboneError as error:
            _log.warning("%s", error)
            continue
        if record is not None:
            records.append(record)
    return records


def read_record(name: str) -> Record | None:
    """The record of a stored backbone; ``None`` when there is none.

    Raises:
        BackboneError: the record is damaged.
    """
    path = folder_of(name) / "record.json"
    content = _read_table(path)
    if content is None:
        return None
    normalisation = content.pop("normalisation", None)
    fields = set(Record.__dataclass_fields__) - {"normalisation"}
    if set(content) != fields or not all(isinstance(value, str) for value in content.values()):
        raise BackboneError(f"{path} is damaged: expected the texts {sorted(fields)}; remove {path.parent}")
    if content["name"] != name:
        raise BackboneError(f"{path} is of {content['name']!r}, not of {name!r}; remove {path.parent}")
    if normalisation is not None:
        if not isinstance(normalisation, list) or len(normalisation) != 2:
            raise BackboneError(f"{path} is damaged: expected a mean and a standard deviation; remove {path.parent}")
        normalisation = as_normalisation(*normalisation, str(path))
    return Record(**content, normalisation=normalisation)


def _load_stored(record: Record, position_rule: PositionRule) -> LoadedBackbone:
    file = folder_of(record.name) / "model.safetensors"
    loaded = _load(file, position_rule, name=record.name, normalisation=record.normalisation)
    if loaded.fingerprint != record.fingerprint:
        msg = (
            f"{file} is damaged: expected fingerprint {record.fingerprint}, got {loaded.fingerprint}; "
            f"remove {file.parent} and get it again"
        )
        raise BackboneError(msg)
    return loaded


def _load(
    path: Path, position_rule: PositionRule, *, name: str | None = None, normalisation: Normalisation | None = None
) -> LoadedBackbone:
    config, tensors = read_weights(path)
    weights_fingerprint = fingerprint(tensors)
    if name is None:
        entry = local_card(path.name, config, weights_fingerprint, read_normalisation(path))
        _remember(weights_fingerprint, path)
    else:
        entry = named_card(name, config, weights_fingerprint, normalisation)
    module = empty_backbone(with_position_rule(config, position_rule))
    module.load_state_dict({key: value.to(torch.float32, copy=True) for key, value in tensors.items()}, assign=True)
    return LoadedBackbone(module.eval().requires_grad_(False), entry, weights_fingerprint, str(path))


def _random(entry: BackboneCard, position_rule: PositionRule) -> LoadedBackbone:
    module = random_backbone(with_position_rule(entry.config, position_rule)).eval().requires_grad_(False)
    return LoadedBackbone(module, entry, fingerprint(module.state_dict()), entry.source)


def _holds_no_weights(path: Path) -> bool:
    """A folder that only happens to be called like a backbone must not hide the stored one."""
    return path.is_dir() and not any(path.glob("*.safetensors"))


def _index_path() -> Path:
    return store_folder() / "index.json"


def _remembered(wanted: str) -> Iterator[str]:
    try:
        paths = (_read_table(_index_path()) or {}).get(wanted, [])
    except BackboneError as error:
        _log.warning("%s", error)
        return
    yield from (path for path in paths if isinstance(path, str)) if isinstance(paths, list) else ()


def _remember(weights_fingerprint: str, path: Path) -> None:
    """Note where weights were seen; a home folder that cannot be written is no reason to stop."""
    place = str(path.resolve())
    try:
        index = _read_table(_index_path()) or {}
        paths = index.get(weights_fingerprint)
        paths = paths if isinstance(paths, list) else []
        if place not in paths:
            write_json(_index_path(), index | {weights_fingerprint: [place, *paths][:8]})
    except (OSError, BackboneError) as error:
        _log.info("the place of this backbone was not remembered: %s", error)


def _read_table(path: Path) -> dict[str, object] | None:
    """A JSON object, or ``None`` when there is no such file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise BackboneError(f"{path} cannot be read ({error}); remove it") from error
    if not isinstance(content, dict):
        raise BackboneError(f"{path} is damaged: expected an object; remove it")
    return content
