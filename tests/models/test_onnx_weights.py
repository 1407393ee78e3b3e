"""The protobuf reader: the real model where it is at hand, a hand-made one, and hostile bytes everywhere."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_writer import field, onnx_model, varint
from weight_layouts import hugging_face_dinov2_v4

from anymc3d.errors import BackboneError
from anymc3d.models.backbones import TINY_DINOV2, card
from anymc3d.models.fingerprint import fingerprint
from anymc3d.models.layouts.table import canonical_state
from anymc3d.models.onnx_weights import read_backbone_tensors
from anymc3d.models.vit import random_vit
from anymc3d.models.weight_files import read_safetensors

SHARED_MODEL = Path(__file__).resolve().parents[3] / "shared" / "models" / "dinov2-small-fp16"


def test_anonymous_weights_get_their_names_from_the_graph() -> None:
    tensors = dict(random_vit(TINY_DINOV2).state_dict())
    found = read_backbone_tensors(onnx_model(hugging_face_dinov2_v4(tensors)))
    config, canonical = canonical_state(found)
    assert config == TINY_DINOV2
    assert all(torch.equal(canonical[name], tensors[name]) for name in tensors)


@pytest.mark.real_data
@pytest.mark.skipif(not SHARED_MODEL.is_dir(), reason="the shared models are not beside this repository")
def test_published_fingerprint_is_that_of_the_half_precision_copy() -> None:
    config, tensors = canonical_state(read_safetensors(SHARED_MODEL / "model.safetensors"))
    assert config == card("dinov2-small-imgfocus").config
    assert fingerprint(tensors) == card("dinov2-small-imgfocus").fingerprint
    assert sum(tensor.numel() for tensor in tensors.values()) == 22_056_192


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff" * 40,
        field(7, 5),
        field(7, b""),
        varint(7 << 3 | 2) + varint(1 << 60) + b"x",
        varint(7 << 3 | 3),
        field(7, field(5, field(1, 1 << 62) + field(1, 1 << 62) + field(2, 1) + field(8, b"a") + field(9, b"1234"))),
        field(7, field(5, field(1, 0) + field(2, 1) + field(8, b"a"))),
        field(7, field(5, b"".join(field(1, 1) for _ in range(9)) + field(2, 1) + field(9, b"1234"))),
        field(7, field(1, field(1, 3))),
    ],
)
def test_F3_hostile_bytes_are_a_clean_error(content: bytes) -> None:
    with pytest.raises(BackboneError):
        read_backbone_tensors(content)


@settings(max_examples=200)
@given(st.binary(max_size=60), st.integers(0, 10_000), st.integers(0, 60))
def test_F3_damaged_models_never_crash(noise: bytes, place: int, removed: int) -> None:
    small = {
        "embeddings.cls_token": torch.ones(1, 1, 2),
        "embeddings.position_embeddings": torch.ones(1, 5, 2),
        "encoder.layer.0.mlp.fc1.weight": torch.ones(3, 2),
        "encoder.layer.0.mlp.fc1.bias": torch.ones(3),
    }
    content = onnx_model(small)
    place %= len(content)
    try:
        tensors = read_backbone_tensors(content[:place] + noise + content[place + removed :])
    except BackboneError:
        return
    assert all(tensor.dtype == torch.float32 for tensor in tensors.values())
