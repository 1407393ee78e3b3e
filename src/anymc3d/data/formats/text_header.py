"""Headers of text, as MetaImage and NRRD have them: their lines, and what each of them must say.

What a header says twice, or says in a way that readers take for something else, is refused: SimpleITK takes what is no
number for 0. The text itself stays out of every message: it may be the name of a file, or of a patient.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from anymc3d.errors import HeaderError

_MAX_HEADER = 64 * 1024
_NUMBER = re.compile(r"[+-]?[0-9.]{1,20}")
_REFUSED_TYPES = ("MET_ASCII_CHAR", "MET_OTHER", "MET_STRING", "MET_LONG", "MET_ULONG", "block", "complex")


@dataclass(frozen=True)
class Layout:
    """What a text header promises; ``packing``: raw, zlib or gzip, from byte ``offset`` on."""

    shape: tuple[int, int, int]
    dtype: str
    order: str
    """Of the bytes: ``<`` or ``>``."""
    offset: int
    packing: str
    warnings: tuple[str, ...]
    detached: Path | None = None
    """The file that holds the voxels, where the header has none of its own; ``offset`` counts in it."""

    @property
    def num_bytes(self) -> int:
        """Of the decoded voxels."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


def next_line(file: BinaryIO, path: Path) -> str:
    """The next line of a header, which is not too far from the file's beginning; the last of a file needs no end."""
    line = file.readline(_MAX_HEADER)
    is_whole = line.endswith(b"\n") or ((b"=" in line or b":" in line) and not file.read(1))
    if not is_whole or file.tell() > _MAX_HEADER:
        raise HeaderError.of(path, "the file ends inside its header, or has none: empty, truncated or damaged")
    return line.decode("latin-1").rstrip("\r\n")


def keep(fields: dict[str, str], name: str, value: str, path: Path) -> None:
    """Add a field that the header has not named before."""
    if name in fields:
        raise HeaderError.of(
            path, "the header says something twice, and readers take one or the other; repair the header"
        )
    fields[name] = value


def expect(
    fields: Mapping[str, str], name: str, allowed: tuple[str, ...], path: Path, *, default: str | None = None
) -> None:
    """One of the ``allowed`` values, where the header does not say it the ``default``."""
    value = fields.get(name, default)
    if value not in allowed:
        # The text itself stays away: it may be the name of a file, or of a patient.
        value_text = "nothing" if value is None else value if _NUMBER.fullmatch(value) else "another text"
        what = f"{name}: expected {' or '.join(allowed)}, the header says {value_text}"
        raise HeaderError.of(path, f"{what}; save it as one 3D scan in one file")


def sizes_of(text: str, path: Path) -> tuple[int, int, int]:
    """Three whole numbers."""
    parts = text.split()
    if len(parts) != 3 or not all(part.isascii() and part.isdigit() and len(part) < 12 for part in parts):
        text_shown = text if all(_NUMBER.fullmatch(part) for part in parts) and parts else "something else"
        raise HeaderError.of(path, f"expected three sizes, the header says {text_shown}; the file is damaged")
    x, y, z = (int(part) for part in parts)
    return x, y, z


def refuse_odd_numbers(name: str, text: str, path: Path, *, count: int | None = None) -> None:
    """Finite numbers alone, and so many."""
    parts = text.split()
    try:
        fine = all(math.isfinite(float(part)) for part in parts) and count in (None, len(parts))
    except ValueError:
        fine = False
    if not fine:
        raise HeaderError.of(path, f"{name}: expected finite numbers, as the geometry needs them; repair the header")


def refuse_not_positive(name: str, text: str, path: Path) -> None:
    """Numbers above 0."""
    if min(float(part) for part in text.split()) <= 0:
        raise HeaderError.of(path, f"expected a spacing above 0 in {name}; repair the header")


def dtype_of(text: str, types: Mapping[str, str], path: Path) -> str:
    """The NumPy name of a number type that is read."""
    if text not in types:
        type_text = text if text in _REFUSED_TYPES else "another type"
        raise HeaderError.of(path, f"expected integer or float voxels, the header says {type_text}; save as int16")
    return types[text]
