"""The models of segmentation networks, by hash in the local store, so that a plugin finds the one it was trained with.

A plugin's record has ``sha256:`` and the hash, never a path of the machine it was trained on.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from anymc3d.errors import SegmenterError
from anymc3d.files import atomic, home
from anymc3d.models.meshnet import MAX_BYTES, weights_beside
from anymc3d.printable import shown
from anymc3d.settings.views import RoiSettings, ViewSettings

PREFIX = "sha256:"
PROGRAM = "TotalSegmentator"
"""What a plugin calls the program that drew its region; its user says where theirs is."""
_ENDINGS = {"meshnet": ".json", "onnx": ".onnx"}
_MAX_ONNX_BYTES = 2 << 30


def model_folder() -> Path:
    """Where models are kept."""
    return home.home_folder() / "segmenters"


def with_stored_models(views: Mapping[str, ViewSettings]) -> dict[str, ViewSettings]:
    """The same views, with the hash of a network's model in place of its path; the model goes into the store.

    Raises:
        UsageError: a model is not there, or of another kind.
    """
    return {
        name: view if view.roi is None else replace(view, roi=stored_region(view.roi)) for name, view in views.items()
    }


def portable(view: ViewSettings) -> ViewSettings:
    """A view as a plugin records it: with what is done to its slices on the way to the backbone said outright, and that
    a program drew the region, without what it is called on this machine."""
    view = replace(view, statistics="none" if view.is_standardised else "backbone")
    if view.roi is None or view.roi.program is None:
        return view
    return replace(view, roi=replace(view.roi, program=PROGRAM))


def keep_model(path: Path) -> str:
    """Put a model (``.onnx``, or a MeshNet's ``.json`` with its ``.bin``) into the store; returns ``sha256:…``.

    Raises:
        UsageError: it is not there, or something else.
    """
    if path.suffix.lower() not in _ENDINGS.values():
        raise SegmenterError(
            f"roi.model: expected a network's .onnx, or .json with its .bin beside it, got {path.name!r}"
        )
    parts = [path, weights_beside(path)] if path.suffix.lower() == ".json" else [path]
    contents = [_content(part) for part in parts]
    digest = hashlib.sha256(b"".join(hashlib.sha256(content).digest() for content in contents)).hexdigest()
    for part, content in zip(parts, contents, strict=True):
        atomic.write_bytes(model_folder() / digest / f"model{part.suffix.lower()}", content)
    return PREFIX + digest


def stored_model(roi: RoiSettings) -> list[bytes]:
    """The files of a network's model: one of ONNX, two of a MeshNet (layout, weights).

    Raises:
        UsageError: it is not in the store, or damaged there.
    """
    digest = (roi.model or "").removeprefix(PREFIX)
    if not re.fullmatch("[0-9a-f]{64}", digest):
        raise SegmenterError(f"roi.model: expected {PREFIX} and 64 digits, or a file, got '{shown(roi.model)}'")
    first = model_folder() / digest / f"model{_ENDINGS[roi.source]}"
    if not first.is_file():
        what = f"the {roi.source} network {PREFIX}{digest[:12]}… that draws the region is not in the local store"
        raise SegmenterError(f"{what}; give its file with --segmenter (in Python: segmenters=[...])")
    parts = [first, weights_beside(first)] if roi.source == "meshnet" else [first]
    contents = [_content(part) for part in parts]
    if hashlib.sha256(b"".join(hashlib.sha256(content).digest() for content in contents)).hexdigest() != digest:
        raise SegmenterError(
            f"the stored network {PREFIX}{digest[:12]}… is damaged; give its file again with --segmenter"
        )
    return contents


def stored_region(roi: RoiSettings) -> RoiSettings:
    """The same region, with the hash of its network's model in place of the path; the model goes into the store.

    Raises:
        UsageError: the model is not there, or of another kind.
    """
    if roi.model is None or roi.model.startswith(PREFIX):
        return roi
    path = Path(roi.model)
    if path.suffix.lower() != _ENDINGS[roi.source]:
        raise SegmenterError(f"roi.model: source: {roi.source} takes a {_ENDINGS[roi.source]}, got {path.name!r}")
    return replace(roi, model=keep_model(path))


def _content(path: Path) -> bytes:
    if not path.is_file():
        raise SegmenterError(f"roi.model: no such file: {path}")
    limit = _MAX_ONNX_BYTES if path.suffix.lower() == ".onnx" else MAX_BYTES
    if path.stat().st_size > limit:
        raise SegmenterError(f"roi.model: {path.name} has {path.stat().st_size} bytes, the limit is {limit}")
    return path.read_bytes()
