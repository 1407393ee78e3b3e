"""Copying named tensors into a network: every name and shape must be the expected one."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from anymc3d.errors import PluginError
from anymc3d.models.fingerprint import layout_fingerprint
from anymc3d.printable import shown

SHOWN = 8


def differences(destination: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> list[str]:
    """What keeps ``given`` from filling ``destination``, one line each."""
    wrong = [f"missing {name}" for name in destination if name not in given]
    wrong += [f"unexpected {shown(name, 100)}" for name in given if name not in destination]
    wrong += [
        f"{name} has shape {tuple(given[name].shape)}, expected {tuple(destination[name].shape)}"
        for name in destination
        if name in given and given[name].shape != destination[name].shape
    ]
    return wrong


def copy_into(destination: Mapping[str, Tensor], given: Mapping[str, Tensor], what: str = "") -> None:
    """Copy ``given`` into ``destination``, in place.

    Args:
        destination: name -> parameter or buffer.
        given: the same names and shapes.
        what: of a network with a name: what is expected, for the message.

    Raises:
        PluginError: a tensor is missing, unexpected or of another shape; all are listed.
    """
    wrong = differences(destination, given)
    if wrong:
        listed = "; ".join(wrong[:SHOWN])
        if what:
            raise PluginError(
                f"expected {what} ({layout_fingerprint(destination)}), "
                f"got another network's ({layout_fingerprint(given)}): {listed}"
            )
        raise PluginError(f"the plugin's tensors do not fit its settings: {listed}")
    with torch.no_grad():
        for name, tensor in destination.items():
            tensor.copy_(given[name])
