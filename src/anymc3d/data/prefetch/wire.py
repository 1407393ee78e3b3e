"""What is said between this process and those that read: JSON, and after it the bytes of arrays. None of it is code.

A reader has seen files of strangers, so its answers are taken as data: only the classes of :data:`TYPES` are built of
them, and only arrays of plain numbers.
"""

from __future__ import annotations

import builtins
import dataclasses
import json
import struct
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

import numpy as np

from anymc3d import errors
from anymc3d.data.case import Case
from anymc3d.data.case_faults import CaseFault
from anymc3d.data.case_scans import PreparedCase
from anymc3d.data.intensity import IntensityProfile
from anymc3d.data.prefetch.needs import Needs
from anymc3d.data.preprocess import PreparedView
from anymc3d.data.scan import ScanFacts
from anymc3d.data.time_limit import TooSlowError
from anymc3d.data.volume import ScanHeader, Volume
from anymc3d.error_codes import CODES
from anymc3d.errors import TooLargeError
from anymc3d.settings.views import RoiSettings, ViewSettings

TYPES: Mapping[str, type] = {
    cls.__name__: cls
    for cls in (
        *(Case, CaseFault, IntensityProfile, Needs, PreparedCase, PreparedView, RoiSettings, ScanFacts, ScanHeader),
        *(ViewSettings, Volume),
    )
}
"""THE table of what is built from what came."""
ERRORS: Mapping[str, type[Exception]] = {
    cls.__name__: cls
    for cls in (
        *(errors.AnyMC3DError, errors.ScanError, errors.ExcludedError, errors.OutputError, errors.UsageError),
        *(errors.InterruptedRunError, TooLargeError, TooSlowError),
    )
}
"""Exceptions that are caught by their type; of others the name and the text come over."""
_BASES = (MemoryError, RuntimeError)
"""What is looked for among the bases of others: that memory ended."""
READY = "ready"
"""What a process says when it can be asked."""
LogLine = tuple[str, int, str]
"""A line of the log: logger, level, text."""
MOST_BYTES = 64 << 30
"""Bytes of the arrays of one answer."""
_MOST_TEXT = 1 << 28
_LENGTHS = struct.Struct(">QQ")
_KIND = "_"


class BrokenMessageError(Exception):
    """What came is not what is said here: its sender ended in the middle, or is out of its mind."""


def send(pipe: BinaryIO, message: Any) -> None:
    """Write one message.

    Raises:
        OSError: the other end is closed.
    """
    arrays: list[np.ndarray] = []
    text = json.dumps(_plain(message, arrays)).encode()
    pipe.write(_LENGTHS.pack(len(text), sum(array.nbytes for array in arrays)) + text)
    for array in arrays:
        pipe.write(memoryview(array).cast("B") if array.nbytes else b"")
    pipe.flush()


def receive(pipe: BinaryIO, room: Callable[[int], object] = lambda count: None) -> Any:
    """Read one message; ``room`` is called with the bytes of its arrays before they are read, and may wait.

    Raises:
        BrokenMessageError: the message is cut off or none.
    """
    text_length, count = _LENGTHS.unpack(_exactly(pipe, _LENGTHS.size))
    if text_length > _MOST_TEXT or count > MOST_BYTES:
        raise BrokenMessageError(f"{text_length} and {count} bytes")
    text = _exactly(pipe, text_length)
    room(count)
    content = _exactly(pipe, count)
    try:
        return _Built(memoryview(content)).value(json.loads(text))
    except (errors.AnyMC3DError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise BrokenMessageError(type(error).__name__) from error


def _exactly(pipe: BinaryIO, count: int) -> bytearray:
    try:
        content = bytearray(count)
    except MemoryError:
        raise BrokenMessageError(f"{count} bytes do not fit in memory") from None
    view, filled = memoryview(content), 0
    while filled < count:
        count_read = pipe.readinto(view[filled:])  # type: ignore[attr-defined]
        if not count_read:
            raise BrokenMessageError("it ends early")
        filled += count_read
    return content


def _plain(value: Any, arrays: list[np.ndarray]) -> Any:
    """As JSON has it; arrays are put into ``arrays``, each as it lies in memory."""
    if isinstance(value, np.ndarray):
        is_fortran = value.flags.f_contiguous and not value.flags.c_contiguous
        stored = value.T if is_fortran else np.ascontiguousarray(value)
        arrays.append(stored)
        return {_KIND: "array", "dtype": stored.dtype.str, "shape": list(value.shape), "fortran": is_fortran}
    if dataclasses.is_dataclass(value):
        fields = {field.name: _plain(getattr(value, field.name), arrays) for field in dataclasses.fields(value)}
        return {_KIND: type(value).__name__, "fields": fields}
    if isinstance(value, Exception):
        return {_KIND: "error"} | _plain_error(value)
    if isinstance(value, Mapping):
        return {_KIND: "dict", "items": [[key, _plain(item, arrays)] for key, item in value.items()]}
    if isinstance(value, tuple | list):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {_KIND: kind, "items": [_plain(item, arrays) for item in value]}
    return value.item() if isinstance(value, np.generic) else value


def _plain_error(error: Exception) -> dict[str, Any]:
    kind = next((cls.__name__ for cls in type(error).__mro__ if cls.__name__ in ERRORS), type(error).__name__)
    system = {"errno": error.errno, "strerror": error.strerror} if isinstance(error, OSError) else {}
    base = next((cls.__name__ for cls in _BASES if isinstance(error, cls)), "Exception")
    more = {"what": getattr(error, "what", None), "code": getattr(error, "code", None), "system": system}
    return {"kind": kind, "base": base, "text": str(error)} | more


class _Built:
    """Values from their plain form and the bytes of their arrays, which stand in the order of the form."""

    def __init__(self, content: memoryview) -> None:
        self._content, self._at = content, 0

    def value(self, plain: Any) -> Any:
        if not isinstance(plain, dict):
            return plain
        kind = plain[_KIND]
        if kind == "array":
            return self._array(plain)
        if kind == "error":
            return _error(plain)
        if kind == "dict":
            return {key: self.value(item) for key, item in plain["items"]}
        if kind in ("tuple", "list"):
            items = [self.value(item) for item in plain["items"]]
            return tuple(items) if kind == "tuple" else items
        return TYPES[kind](**{name: self.value(item) for name, item in plain["fields"].items()})

    def _array(self, plain: dict[str, Any]) -> np.ndarray:
        dtype, shape = np.dtype(plain["dtype"]), tuple(plain["shape"])
        if dtype.kind not in "biuf" or any(length < 0 for length in shape):
            raise ValueError("no array of numbers")
        count = dtype.itemsize * int(np.prod(shape, dtype=object))
        part = self._content[self._at : self._at + count]
        self._at += count
        array = np.frombuffer(part, dtype=dtype)
        return array.reshape(shape[::-1]).T if plain["fortran"] else array.reshape(shape)


def _error(plain: dict[str, Any]) -> Exception:
    kind, text = str(plain["kind"]), str(plain["text"])
    if kind in ERRORS:
        cls = ERRORS[kind]
        code = plain["code"] if plain["code"] in CODES else None
        return cls(text, what=plain["what"], code=code) if issubclass(cls, errors.ScanError) else cls(text, code=code)
    system, known = plain["system"], getattr(builtins, kind, None)
    if system.get("strerror") and isinstance(known, type) and issubclass(known, OSError):
        return known(system["errno"], system["strerror"])
    # Its own name is what rows show; a class of the same name stands for one that this process need not know.
    base = next((cls for cls in _BASES if cls.__name__ == plain["base"]), Exception)
    return type(kind if kind.isidentifier() else "Exception", (base,), {})(text)
