"""MeshNet: a small stack of dilated 3D convolutions that labels every voxel, read from its TensorFlow.js layout.

Source: the layout of TensorFlow.js layers models (a JSON of layers and a manifest of weights, and their float32 bytes
one after the other), as neuroneural/brainchop (MIT) ships its brain models. Kernels are stored (depth, height, width,
in, out), in the order of the input's axes. Nothing but the layers below is read, and nothing is run from the file.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from anymc3d.errors import SegmenterError, UsageError

MAX_BYTES = 256 << 20


class MeshNet(nn.Module):
    """(1, 1, X, Y, Z) float32 to scores (1, K, X, Y, Z): convolutions over all voxels, ReLU between them."""

    def __init__(self, layers: list[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    @torch.inference_mode()
    def forward(self, voxels: Tensor) -> Tensor:
        """Scores of every voxel; one layer's result at a time is in memory."""
        for layer in self.layers:
            voxels = layer(voxels)
        return voxels


def weights_beside(layout: Path) -> Path:
    """The file of weights that belongs to a layout: the same name, ending ``.bin``."""
    return layout.with_suffix(".bin")


def read_meshnet(layout: bytes, weights: bytes) -> MeshNet:
    """Build the network from the JSON of its layers and the bytes of its weights.

    Raises:
        UsageError: the layout has something else than dilated convolutions and ReLU, or does not fit the weights.
    """
    try:
        model = json.loads(layout)
        described = model["modelTopology"]["model_config"]["config"]["layers"]
        entries = [entry for group in model["weightsManifest"] for entry in group["weights"]]
        tensors = _tensors(entries, weights)
        return MeshNet(
            [module for entry in described for module in _modules(entry["class_name"], entry["config"], tensors)]
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _unusable(f"{type(error).__name__}: {error}") from error


def _tensors(entries: list[dict[str, Any]], weights: bytes) -> dict[str, np.ndarray]:
    tensors, start = {}, 0
    for entry in entries:
        if entry["dtype"] != "float32" or "quantization" in entry:
            raise _unusable(f"weights of type {entry['dtype']}, expected plain float32")
        shape = tuple(int(count) for count in entry["shape"])
        size = math.prod(shape)
        if min(shape, default=1) < 1 or start + 4 * size > len(weights):
            raise _unusable(f"the layout wants more weights than the {len(weights)} bytes there are")
        tensors[str(entry["name"])] = np.frombuffer(weights, dtype="<f4", count=size, offset=start).reshape(shape)
        start += 4 * size
    if start != len(weights):
        raise _unusable(f"the layout describes {start} bytes of weights, the file has {len(weights)}")
    if not all(np.isfinite(tensor).all() for tensor in tensors.values()):
        raise _unusable("a weight is not finite")
    return tensors


def _modules(kind: str, settings: dict[str, Any], tensors: dict[str, np.ndarray]) -> list[nn.Module]:
    if kind == "InputLayer":
        return []
    if kind == "Activation":
        return _activation(settings["activation"])
    if kind != "Conv3D":
        raise _unusable(f"a layer of kind {kind!r}; read are Conv3D and Activation")
    same = (settings["padding"], settings["data_format"], settings["groups"]) == ("same", "channels_last", 1)
    if not same or list(settings["strides"]) != [1, 1, 1] or not settings["use_bias"]:
        raise _unusable("expected convolutions with padding same, channels last, one group, stride 1 and a bias")
    kernel = tensors[f"{settings['name']}/kernel"].transpose(4, 3, 0, 1, 2)
    out, into, *size = kernel.shape
    dilation = tuple(int(step) for step in settings["dilation_rate"])
    if any(side % 2 == 0 for side in size) or not 1 <= min(dilation) <= max(dilation) <= 64:
        raise _unusable(f"a kernel of {size} voxels and dilation {dilation}; expected odd sizes, dilation 1 to 64")
    padding = tuple(step * (side // 2) for step, side in zip(dilation, size, strict=True))
    layer = nn.Conv3d(into, out, tuple(size), dilation=dilation, padding=padding)
    layer.weight.data = torch.from_numpy(np.ascontiguousarray(kernel))
    layer.bias.data = torch.from_numpy(tensors[f"{settings['name']}/bias"].copy())
    return [layer.requires_grad_(False), *_activation(settings["activation"])]


def _activation(name: str) -> list[nn.Module]:
    if name not in ("linear", "relu"):
        raise _unusable(f"activation {name!r}; read are linear and relu")
    return [nn.ReLU(inplace=True)] if name == "relu" else []


def _unusable(what: str) -> UsageError:
    return SegmenterError(
        f"the MeshNet cannot be used: {' '.join(what.split())[:200]}; give the .json with its .bin beside it"
    )
