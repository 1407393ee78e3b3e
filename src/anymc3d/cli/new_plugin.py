"""Writing a plugin that was made from others: never over its own source, never over something else unasked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from anymc3d.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from anymc3d.plugins.card import PluginCard


def write_new(
    path: Path, card: PluginCard, tensors: Mapping[str, Tensor], *, overwrite: bool, inputs: Sequence[Path]
) -> str:
    """Write the plugin and return its hash; a file that is already this plugin stays as it is.

    Raises:
        UsageError: ``path`` is one of ``inputs``, or holds something else and ``overwrite`` is False.
    """
    from anymc3d.files import atomic
    from anymc3d.plugins import load_plugin, plugin_bytes

    if path.suffix != ".safetensors":
        raise UsageError(f"--out: expected the name of a .safetensors file, got {path}")
    if any(path.exists() and input_path.exists() and path.samefile(input_path) for input_path in inputs):
        raise UsageError(f"--out: {path} is one of the inputs, which stay as they are; choose another file")
    if path.exists() and not path.is_file():
        raise UsageError(f"--out: {path} is not a file; choose another name")
    content = plugin_bytes(card, tensors)
    if path.exists() and not overwrite and path.read_bytes() != content:
        raise UsageError(f"--out: {path} holds something else; choose another file, or --overwrite it")
    atomic.write_bytes(path, content)
    return load_plugin(path).hash
