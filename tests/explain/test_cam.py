"""Grad-CAM of a DaViT: the formula by finite differences, and where a cell's value belongs."""

from __future__ import annotations

import pytest
import torch

from anymc3d.errors import UsageError
from anymc3d.explain.cam import cam_weights, to_cell_centres
from anymc3d.explain.methods import METHODS, check_backbone, methods_of
from anymc3d.models.architectures import random_backbone
from anymc3d.models.backbones import TINY_DAVIT, TINY_DINOV2, TINY_SIGLIP
from anymc3d.models.classifier import Encoding

EXACT = Encoding(mean=(0.0,) * 3, std=(1.0,) * 3)


def test_a_feature_counts_as_much_as_the_logit_rises_with_its_mean() -> None:
    module = random_backbone(TINY_DAVIT, seed=1).requires_grad_(False)
    for parameter in module.parameters():
        parameter.mul_(4)
    images = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    outer = torch.randn(2, 128, generator=torch.Generator().manual_seed(1))
    features = module(images, last_stage=True)
    assert torch.allclose(module.pool(features), module(images, class_token_only=True).tokens)
    mean, step = features.mean(1).double(), 1e-5

    def logit(means: torch.Tensor) -> torch.Tensor:
        normed = torch.nn.functional.layer_norm(means, (128,), module.norms.weight.double(), module.norms.bias.double())
        return (normed * outer.double()).sum(-1)

    rises = torch.stack(
        [(logit(mean + shift) - logit(mean - shift)) / (2 * step) for shift in step * torch.eye(128).double()], dim=1
    )
    expected = torch.einsum("snd,sd->sn", features.double(), rises).clamp(min=0) / 6  # N tokens share the mean
    found = cam_weights(module, {}, images, EXACT, {3: outer})
    assert list(found) == [("grad-cam", 3)] and expected.max() > 0
    moved = to_cell_centres(expected.view(2, 2, 3).float()).flatten(1)
    torch.testing.assert_close(found["grad-cam", 3], moved, atol=1e-5, rtol=1e-3)


def test_a_value_moves_from_the_first_pixel_of_its_cell_to_the_middle() -> None:
    """Stride 4 with 7 pixels, then 2 with 3: the first output looks around pixel 0, not around the cell's middle."""
    first_pixels = 32.0 * torch.arange(5).view(1, 5, 1).expand(1, 5, 2)
    centred = to_cell_centres(first_pixels)
    assert torch.equal(centred[0, :4, 0], first_pixels[0, :4, 0] + 16)
    assert torch.equal(to_cell_centres(torch.ones(1, 3, 4)), torch.ones(1, 3, 4))


def test_strided_convolutions_are_centred_on_the_first_pixel_of_a_cell() -> None:
    module = random_backbone(TINY_DAVIT)
    image = torch.zeros(1, 1, 9 * 32, requires_grad=True)
    line = image
    for embed in module.convs:
        kernel = torch.ones(1, 1, embed.proj.kernel_size[0])
        line = torch.nn.functional.conv1d(line, kernel, stride=embed.proj.stride[0], padding=embed.proj.padding[0])
    line[0, 0, 4].backward()
    seen = image.grad[0, 0]
    assert float((seen * torch.arange(len(seen))).sum() / seen.sum()) == 4 * 32


@pytest.mark.parametrize("config", [TINY_DINOV2, TINY_SIGLIP, TINY_DAVIT], ids=["vit", "siglip", "davit"])
def test_a_backbone_has_attention_methods_or_grad_cam_and_says_so(config) -> None:
    module = random_backbone(config)
    has = methods_of(module)
    assert set(has) == ({"grad-cam"} if config is TINY_DAVIT else set(METHODS) - {"grad-cam"})
    check_backbone(has, module)
    for name in set(METHODS) - set(has):
        with pytest.raises(UsageError, match=f"{name} .*it has {has[0]}"):
            check_backbone([name], module)
