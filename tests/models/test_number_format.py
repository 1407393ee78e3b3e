"""bfloat16 is used only where gradients come out right."""

import pytest
import torch
from torch import nn

from anymc3d.models.baseline import BaselineClassifier
from anymc3d.models.classifier import Encoding, PackedSlices
from anymc3d.models.decoders.interface import CaseTokens
from anymc3d.models.decoders.nnunet import NnUNetDecoder
from anymc3d.models.number_format import autocast_for, exact_where_shallow
from anymc3d.models.zoo.table import ZOO

CPU = torch.device("cpu")


def gradients(network, volume, dtype):
    """Of every weight, for one fixed gradient of the output."""
    network.zero_grad()
    with autocast_for(network, CPU, dtype):
        answer = network(volume)
    answer.float().backward(torch.randn(answer.shape, generator=torch.Generator().manual_seed(1)))
    return [parameter.grad.clone() for parameter in network.parameters()]


@pytest.mark.parametrize(("num_slices", "kernel"), [(2, 3), (2, 5), (3, 5), (4, 5), (2, 7), (3, 7), (8, 3)])
def test_a_deep_kernel_over_few_slices_has_the_gradient_of_float32(num_slices, kernel):
    torch.manual_seed(0)
    network = nn.Conv3d(16, 16, kernel, padding=kernel // 2)
    volume = torch.randn(2, 16, num_slices, 18, 18)
    asked, exact = (gradients(network, volume, dtype) for dtype in (torch.bfloat16, torch.float32))
    for one, other in zip(asked, exact, strict=True):
        torch.testing.assert_close(one, other, rtol=0.05, atol=0.02 * float(other.abs().max()))


def test_networks_of_2d_convolutions_are_computed_in_what_is_asked_for():
    network = nn.Conv2d(3, 4, 3)
    with autocast_for(network, CPU, torch.bfloat16):
        assert network(torch.zeros(1, 3, 5, 5)).dtype == torch.bfloat16
    with autocast_for(network, CPU, torch.float32):
        assert network(torch.zeros(1, 3, 5, 5)).dtype == torch.float32


@pytest.mark.parametrize(("num_slices", "is_float32"), [(1, True), (2, True), (3, False)])
def test_shallow_volumes_leave_bfloat16(num_slices, is_float32):
    with torch.autocast("cpu", torch.bfloat16):
        context, volume = exact_where_shallow(torch.zeros(1, 2, num_slices, 4, 4, dtype=torch.bfloat16))
        with context:
            answer = nn.Conv3d(2, 2, 3, padding=1)(volume)
    assert (answer.dtype == torch.float32) == is_float32


def test_the_decoder_learns_the_same_from_two_slices_in_either_format():
    torch.manual_seed(0)
    decoder = NnUNetDecoder(8, 1, torch.Generator().manual_seed(0))
    patches = torch.randn(2, 8, 4, 4).bfloat16().float()  # the same numbers in both
    found = []
    for dtype in (torch.bfloat16, torch.float32):
        decoder.zero_grad()
        tokens = CaseTokens(
            patches=patches.to(dtype), size=(32, 32), before={}, read=None, norm=nn.Identity(), num_prefix_tokens=1
        )
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            decoder(tokens).square().sum().backward()
        found.append([parameter.grad.clone() for parameter in decoder.parameters()])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=0.1, atol=0.05 * float(other.abs().max()) + 1e-3)


def test_float32_in_place_of_bfloat16_is_told_once(caplog):
    classifier = BaselineClassifier(ZOO["resnet18-3d"], channels={"image": 1}, num_logits=2).eval()
    batch = {"image": PackedSlices(torch.zeros(8, 1, 32, 32), (8,))}
    encoding = Encoding(mean=(0.5,) * 3, std=(0.2,) * 3, dtype=torch.bfloat16)
    with caplog.at_level("INFO"), torch.no_grad():
        assert classifier(None, batch, encoding).logits.dtype == torch.float32
        classifier(None, batch, encoding)
    assert [record.message for record in caplog.records if "float32 on a CPU" in record.message] == [
        "resnet18-3d: 3D convolutions are computed in float32 on a CPU, where bfloat16 has wrong gradients"
    ]
