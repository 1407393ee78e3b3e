"""Just enough of an ONNX writer for tests: protobuf fields, constants and nodes."""

from __future__ import annotations

import struct

import torch
from torch import Tensor


def varint(value: int) -> bytes:
    parts = []
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


def field(number: int, content: bytes | int) -> bytes:
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    return varint(number << 3 | 2) + varint(len(content)) + content


def constant(name: str, tensor: Tensor) -> bytes:
    dims = b"".join(field(1, size) for size in tensor.shape)
    raw = struct.pack(f"<{tensor.numel()}f", *tensor.flatten().tolist())
    return field(5, dims + field(2, 1) + field(8, name.encode()) + field(9, raw))


def node(operation: str, inputs: list[str], output: str) -> bytes:
    names = b"".join(field(1, name.encode()) for name in inputs)
    return field(1, names + field(2, output.encode()) + field(4, operation.encode()))


def onnx_model(tensors: dict[str, Tensor]) -> bytes:
    """Tensors in Hugging Face names -> an ONNX file as exported: linear weights and positions are anonymous."""
    graph = constant("decoder.final_conv.bias", torch.zeros(1)) + field(5, field(8, b"shape") + field(2, 7))
    for number, (name, tensor) in enumerate(tensors.items()):
        is_linear = name.endswith("weight") and tensor.ndim == 2
        if name == "embeddings.position_embeddings":
            graph += constant("onnx::Concat_1", tensor[:, :1]) + constant("onnx::Reshape_2", tensor[:, 1:])
            graph += node("Reshape", ["onnx::Reshape_2", "shape"], "/backbone/embeddings/Reshape_output_0")
            graph += node(
                "Concat",
                ["onnx::Concat_1", "/backbone/embeddings/Reshape_output_0"],
                "/backbone/embeddings/Concat_output_0",
            )
        elif is_linear:
            bias = f"backbone.{name.removesuffix('weight')}bias"
            graph += constant(f"onnx::MatMul_{number}", tensor.t())
            graph += node("MatMul", ["tokens", f"onnx::MatMul_{number}"], f"product_{number}")
            graph += node("Add", [bias, f"product_{number}"], f"sum_{number}")
        elif "mask_token" not in name:
            graph += constant(f"backbone.{name}", tensor)
    return field(1, 7) + field(2, b"pytorch") + field(7, graph) + field(8, b"")
