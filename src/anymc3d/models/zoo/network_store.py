"""Weights of networks of the zoo in the local store, ``<home>/networks/<name>/``; backbones have a store of their own.

``model.safetensors`` has the names of the network built here, ``record.json`` says what it is.
"""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from anymc3d.errors import BackboneError, did_you_mean
from anymc3d.files.atomic import replacing, write_json
from anymc3d.files.home import home_folder
from anymc3d.models.pth import convert_pth
from anymc3d.models.store import NAME_PATTERN
from anymc3d.models.weight_files import file_sha256, is_pickle, read_safetensors, weights_file
from anymc3d.models.zoo.published_table import PUBLISHED, Published
from anymc3d.models.zoo.published_weights import Conversion, convert, network_fingerprint, recognise

MODEL = "model.safetensors"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class NetworkRecord:
    """``record.json``. ``published``: the entry of the table of published weights whose layout they have."""

    name: str
    published: str
    fingerprint: str
    file_sha256: str
    origin: str
    licence: str


@dataclass(frozen=True)
class NetworkImport:
    """What an import did."""

    record: NetworkRecord
    conversion: Conversion


def import_network(path: Path, name: str | None = None) -> NetworkImport | None:
    """Put a published file of weights into the store; None if it is of no network of the zoo.

    Args:
        path: ``.safetensors``, or a pickle (``.pth``, ``.pt``, ``.bin``), which a child process reads.
        name: of the table of published weights, whose file it must then be; or what to call it; by default what it is.

    Raises:
        BackboneError: it cannot be read, is nearly but not quite a known file, or other weights have the name.
    """
    if name is not None and not NAME_PATTERN.fullmatch(name):
        raise BackboneError(f"expected a name of at most 64 lower-case letters, digits, '.', '_' and '-', got {name!r}")
    if path.suffix == ".whl":
        return None
    file = weights_file(path)
    raw = _read_any(file)
    try:
        published = PUBLISHED.get(name or "") or recognise(raw, file.name)
        conversion = None if published is None else convert(raw, published)
    except BackboneError as error:
        raise BackboneError(f"{path}: {error}") from error
    if conversion is None:
        return None
    return NetworkImport(
        _save(name or conversion.published.name, conversion, origin=f"imported from {path.name}"), conversion
    )


def stored_network_names() -> list[str]:
    """Every name in the store, whether its record can be read or not."""
    folder = networks_folder()
    return sorted(path.parent.name for path in folder.glob("*/record.json")) if folder.is_dir() else []


def stored_networks() -> list[NetworkRecord]:
    """Every readable record of the store, by name."""
    records = []
    for name in stored_network_names():
        try:
            records.append(_read_record(network_folder(name) / "record.json"))
        except BackboneError as error:
            _log.warning("%s", error)
    return records


def stored_network(name: str) -> NetworkRecord | None:
    """The record of this name, None when there is none.

    Raises:
        BackboneError: the record is damaged.
    """
    path = network_folder(name) / "record.json"
    return _read_record(path) if NAME_PATTERN.fullmatch(name) and path.is_file() else None


def stored_tensors(record: NetworkRecord) -> dict[str, Tensor]:
    """The tensors of a stored network, checked against its record.

    Raises:
        BackboneError: they cannot be read, or are not those that were recorded.
    """
    file = network_folder(record.name) / MODEL
    try:
        tensors = read_safetensors(file)
    except BackboneError as error:
        raise BackboneError(f"{file}: {error}; remove {file.parent} and import it again") from error
    digest = network_fingerprint(tensors)
    if digest != record.fingerprint:
        what = f"{file} is damaged: expected fingerprint {record.fingerprint}, got {digest}"
        raise BackboneError(f"{what}; remove {file.parent} and import it again")
    return tensors


def verify_network(name: str) -> NetworkRecord:
    """Check a stored network's record, file hash and fingerprint.

    Raises:
        BackboneError: one of them is not what it should be.
    """
    record = _read_record(network_folder(name) / "record.json")
    stored_tensors(record)
    file = network_folder(record.name) / MODEL
    digest = file_sha256(file)
    if digest != record.file_sha256:
        raise BackboneError(f"{file} was changed: expected sha256 {record.file_sha256}, got {digest}")
    return record


def how_to_get(published: Published) -> str:
    """Where the weights are, under which terms, and the command that takes them, in one line."""
    terms = "gated: accept the terms there first, " if published.gated else ""
    return (
        f"fetch {published.files[0]} from {published.source} ({terms}licence {published.licence}), "
        f"then anymc3d backbone import FILE --name {published.name}"
    )


def networks_folder() -> Path:
    """Where the local store keeps weights of networks."""
    return home_folder() / "networks"


def network_folder(name: str) -> Path:
    return networks_folder() / name


def _save(name: str, conversion: Conversion, *, origin: str) -> NetworkRecord:
    published = conversion.published
    if name in PUBLISHED and name != published.name:
        raise BackboneError(f"{name} is the name of {PUBLISHED[name].title}, these are weights of {published.title}")
    before = stored_network(name)
    if before is not None and before.fingerprint != conversion.fingerprint:
        raise BackboneError(
            f"the store holds other weights as {name} ({before.fingerprint}); these are {conversion.fingerprint}: "
            f"choose another --name, or remove {network_folder(name)} first"
        )
    folder = network_folder(name)
    try:
        with replacing(folder / MODEL) as temporary:
            save_file({key: value.contiguous() for key, value in conversion.tensors.items()}, temporary)
        record = NetworkRecord(
            name=name,
            published=published.name,
            fingerprint=conversion.fingerprint,
            file_sha256=file_sha256(folder / MODEL),
            origin=origin,
            licence=published.licence,
        )
        write_json(folder / "record.json", asdict(record))
    except OSError as error:
        raise BackboneError(f"cannot write the store at {folder}: {error.strerror or error}") from error
    return record


def _read_any(file: Path) -> Mapping[str, Tensor]:
    if not is_pickle(file):
        return read_safetensors(file)
    with tempfile.TemporaryDirectory(prefix="anymc3d-") as folder:
        converted = Path(folder) / MODEL
        convert_pth(file, converted)
        return read_safetensors(converted)


def _read_record(path: Path) -> NetworkRecord:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BackboneError(f"{path} cannot be read ({error}); remove {path.parent}") from error
    fields = set(NetworkRecord.__dataclass_fields__)
    texts = isinstance(content, dict) and set(content) == fields and all(isinstance(v, str) for v in content.values())
    if not texts:
        raise BackboneError(f"{path} is damaged: expected the texts {sorted(fields)}; remove {path.parent}")
    record = NetworkRecord(**content)
    if record.name != path.parent.name or record.published not in PUBLISHED:
        hint = did_you_mean(record.published, PUBLISHED)
        raise BackboneError(f"{path} is of {record.name!r} ({record.published!r}{hint}); remove {path.parent}")
    return record
