"""One entry of the cache: a safetensors file whose header names its key, its plane and a checksum over all of it.

The file is read once, straight into the memory that the slices keep. Checksum: CRC-32, which, as in gzip and zip, is
there for damage and not for malice; the folder is private to the user. Older entries, with SHA-256, stay valid.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from anymc3d.data.formats.scan_file import PlainSource
from anymc3d.data.preprocess import PreparedView
from anymc3d.files import regular
from anymc3d.types import Plane

_MOST_HEADER_BYTES = 1 << 20
_DTYPES = {"slices": ("F16", np.float16), "affine": ("F64", np.float64)}
_LENGTH_BYTES = 8


class DamagedEntryError(ValueError):
    """A cache entry that is not, byte for byte, what was written."""


def encode(view: PreparedView, key: str) -> bytes:
    """The file of an entry."""
    slices = np.ascontiguousarray(view.slices)
    affine = np.ascontiguousarray(view.affine)
    header = _header_bytes(slices, affine, view.plane, view.notes, key)
    facts = {"key": key, "plane": view.plane, "crc32": _crc32_of((header, affine.data, slices.data))}
    if view.notes:
        facts["notes"] = json.dumps(view.notes)
    return save({"slices": slices, "affine": affine}, metadata=facts)


def read_entry(path: Path, key: str) -> PreparedView:
    """The view in an entry, checked against its checksum; its slices may be written to, as they are the caller's own.

    Raises:
        DamagedEntryError: cut, changed in any bit that matters, or the entry of another key.
        OSError: the file is not there or cannot be read.
    """
    try:
        header, body = _read(path)
        facts = header["__metadata__"]
        slices, affine = (_tensor(body, header[name], *_DTYPES[name]) for name in ("slices", "affine"))
        plane, notes = facts["plane"], tuple(map(str, json.loads(facts.get("notes", "[]"))))
        if facts["key"] != key:
            raise DamagedEntryError("it belongs to another key")
        if slices.nbytes + affine.nbytes != body.nbytes or not _is_whole(slices, affine, plane, notes, facts):
            raise DamagedEntryError("its checksum is wrong")
    except DamagedEntryError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedEntryError(f"{type(error).__name__}: {error}") from error
    if plane not in get_args(Plane):
        raise DamagedEntryError(f"unknown plane {plane!r}")
    return PreparedView(slices=slices, affine=affine.copy(), plane=plane, notes=notes)


def safetensors_facts(content: bytes) -> dict[str, str]:
    """The free texts in the header of a whole safetensors file.

    Raises:
        ValueError, KeyError, AttributeError: it has none.
    """
    length = int.from_bytes(content[:_LENGTH_BYTES], "little")
    return dict(json.loads(content[_LENGTH_BYTES : _LENGTH_BYTES + length])["__metadata__"].items())


def _read(path: Path) -> tuple[dict[str, Any], NDArray[np.uint8]]:
    """Header and tensor bytes; memory is asked for only as much as the file is long."""
    with regular.opened(path, buffering=0) as file:
        source, size = PlainSource(file), os.fstat(file.fileno()).st_size
        length = int.from_bytes(_bytes(source, min(_LENGTH_BYTES, size)).data, "little")
        if size < _LENGTH_BYTES or length > min(_MOST_HEADER_BYTES, size - _LENGTH_BYTES):
            raise DamagedEntryError("it is cut, or not a cache entry")
        header = json.loads(_bytes(source, length).tobytes())
        return header, _bytes(source, size - _LENGTH_BYTES - length)


def _bytes(source: PlainSource, count: int) -> NDArray[np.uint8]:
    block = np.empty(count, dtype=np.uint8)
    if source.fill(block.data) != count:
        raise DamagedEntryError("it is cut")
    return block


def _tensor(body: NDArray[np.uint8], entry: dict[str, Any], name: str, dtype: type) -> NDArray:
    if entry["dtype"] != name:
        raise DamagedEntryError(f"expected numbers of the kind {name}, got {entry['dtype']!r}")
    begin, end = entry["data_offsets"]
    return body[begin:end].view(dtype).reshape(entry["shape"])


def _is_whole(slices: NDArray, affine: NDArray, plane: str, notes: tuple[str, ...], facts: dict[str, str]) -> bool:
    if "crc32" in facts:
        header = _header_bytes(slices, affine, plane, notes, facts["key"])
        return facts["crc32"] == _crc32_of((header, affine.data, slices.data))
    header = _header_bytes(slices, affine, plane, notes, "")
    digest = hashlib.sha256(header)
    digest.update(slices.data)
    digest.update(affine.data)
    return facts["sha256"] == digest.hexdigest()


def _header_bytes(slices: NDArray, affine: NDArray, plane: str, notes: tuple[str, ...], key: str) -> bytes:
    """What stands in the header, as one line, so that the checksum is over it too."""
    parts = [slices.dtype, slices.shape, affine.dtype, affine.shape, plane]
    parts += [json.dumps(notes)] if notes else []
    parts += [key] if key else []
    return (" ".join(map(str, parts)) + "\n").encode()


def _crc32_of(parts: tuple[bytes | memoryview, ...]) -> str:
    checksum = 0
    for part in parts:
        checksum = _crc32()(part, checksum)
    return f"{checksum:08x}"


@lru_cache(maxsize=1)
def _crc32() -> Callable[[bytes | memoryview, int], int]:
    """The same number from ISA-L (the extra ``fast``, several times faster) as from zlib."""
    try:
        from isal import isal_zlib
    except ImportError:
        return zlib.crc32
    return isal_zlib.crc32
