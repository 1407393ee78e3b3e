"""Importing opens no socket, and neither does what is imported.

pydicom, which nibabel imports, takes ``requests`` for the downloads of its own test data where it is installed, and
that tries at its import whether a socket of IPv6 can be bound. pydicom is made to find it not installed: it then
downloads, where it is asked to, with Python's own means. Any other module that imports ``requests`` gets it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

_ASKS = "pydicom.data.download"


class _NoRequestsForPydicom(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == "requests" and _is_being_imported(_ASKS):
            raise ModuleNotFoundError(f"{_ASKS} does without it", name=fullname)
        return None


def _is_being_imported(name: str) -> bool:
    spec = getattr(sys.modules.get(name), "__spec__", None)
    return bool(getattr(spec, "_initializing", False))


def install() -> None:
    """Begin, once for the process."""
    if not any(isinstance(finder, _NoRequestsForPydicom) for finder in sys.meta_path):
        sys.meta_path.insert(0, _NoRequestsForPydicom())
