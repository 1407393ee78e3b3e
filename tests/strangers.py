"""Files as a stranger may send them: a plugin with another card, and a program that says so when it is started."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file

from anymc3d.models.tensor_hash import tensors_hash
from anymc3d.plugins.file import HEADER_KEY

_CANARY = """#!{python}
import pathlib, sys
pathlib.Path({told!r}).write_text(" ".join(sys.argv))
sys.exit(1)
"""


def read_raw(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Card and tensors of a plugin, as they stand in the file."""
    with safe_open(str(path), framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return json.loads(file.metadata()[HEADER_KEY]), tensors


def forged(
    source: Path,
    path: Path,
    change: Callable[[dict[str, Any]], Any] = lambda card: None,
    *,
    tensors: Callable[[dict[str, Any]], dict[str, Any]] = dict,
    text: Callable[[str], str] = str,
) -> Path:
    """Write ``source`` with a changed card (in place, or what ``change`` returns), past every check of this program.

    ``tensors``: another set of them, to whose hash the card is brought. ``text``: changes the header as text.
    """
    card, kept = read_raw(source)
    kept = tensors(kept)
    card["tensors_sha256"] = tensors_hash(kept)
    card = change(card) or card
    header = text(json.dumps(card))
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(kept, str(path), metadata={HEADER_KEY: header})
    return path


def canary(folder: Path, name: str) -> tuple[Path, Path]:
    """A program, and the file that is there once it was started."""
    folder.mkdir(parents=True, exist_ok=True)
    program, told = folder / name, folder / "started.txt"
    program.write_text(_CANARY.format(python=sys.executable, told=str(told)))
    program.chmod(0o700)
    return program, told
