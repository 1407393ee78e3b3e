"""The identity of a backbone: the same for the same weights, another for any other."""

from __future__ import annotations

import hashlib
import struct

import pytest
import torch

from anymc3d.errors import BackboneError
from anymc3d.models.backbones import TINY_DINOV2
from anymc3d.models.fingerprint import fingerprint
from anymc3d.models.vit import random_vit

TENSORS = {"b": torch.tensor([[1.0, -2.5]]), "a": torch.tensor(0.1)}


def test_it_is_the_documented_hash() -> None:
    content = b"a:\n" + struct.pack("<e", 0.1) + b"b:1x2\n" + struct.pack("<2e", 1.0, -2.5)
    assert fingerprint(TENSORS) == "sha256:" + hashlib.sha256(content).hexdigest()


def test_order_precision_and_memory_layout_do_not_matter() -> None:
    tensors = dict(random_vit(TINY_DINOV2).state_dict())
    expected = fingerprint(tensors)
    assert fingerprint(dict(reversed(tensors.items()))) == expected
    assert fingerprint({name: value.half() for name, value in tensors.items()}) == expected
    assert fingerprint({name: value.double() for name, value in tensors.items()}) == expected
    assert (
        fingerprint({name: value.t().contiguous().t() if value.ndim == 2 else value for name, value in tensors.items()})
        == expected
    )


def test_F5_one_changed_value_in_any_tensor_changes_it() -> None:
    tensors = dict(random_vit(TINY_DINOV2).state_dict())
    expected = fingerprint(tensors)
    for name, value in tensors.items():
        changed = value.clone()
        changed.view(-1)[-1] += 0.01
        assert fingerprint(tensors | {name: changed}) != expected, name


def test_F5_names_and_shapes_are_part_of_it() -> None:
    expected = fingerprint(TENSORS)
    assert fingerprint({"b": TENSORS["b"].reshape(2, 1), "a": TENSORS["a"]}) != expected
    assert fingerprint({"c": TENSORS["b"], "a": TENSORS["a"]}) != expected


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e6])
def test_weights_that_are_not_finite_in_half_precision_are_refused(value: float) -> None:
    with pytest.raises(BackboneError, match="a holds values that are not finite"):
        fingerprint({"a": torch.tensor([value])})
