"""The same weights give the same answers in timm, where it can be imported (it needs a working torchvision)."""

import pytest
import torch
from torch import nn

from anymc3d.models.zoo.coat import CoaTLite
from anymc3d.models.zoo.ctnet import CTNet
from anymc3d.models.zoo.efficientnet import EfficientNet

timm = pytest.importorskip("timm", reason="timm cannot be imported", exc_type=ImportError)


def filled(network: nn.Module) -> nn.Module:
    """Every number random, those of the norms too, so that nothing is 0 or 1 by chance."""
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            nn.init.uniform_(tensor, 0.5, 1.5) if "running_var" in name else nn.init.normal_(tensor, std=0.1)
    return network.eval()


def test_coat_lite():
    widths, depths = (16, 24, 32, 40), (1, 2, 1, 2)
    reference = timm.models.coat.CoaT(img_size=96, patch_size=4, embed_dims=widths, serial_depths=depths)
    filled(reference).norm4 = nn.Identity()
    own = CoaTLite(widths=widths, depths=depths).eval()
    own.load_state_dict({name: reference.state_dict()[name] for name in own.state_dict()})
    images = torch.rand(2, 3, 96, 96)
    with torch.inference_mode():
        torch.testing.assert_close(own(images), reference.forward_features(images)[:, 1:].mean(dim=1))


def test_efficientnetv2_small():
    own = filled(EfficientNet())
    reference = timm.create_model("tf_efficientnetv2_s", num_classes=0).eval()
    reference.load_state_dict(own.state_dict())
    images = torch.rand(2, 3, 75, 96)
    with torch.inference_mode():
        torch.testing.assert_close(own(images), reference(images), rtol=1e-4, atol=1e-4)


def test_the_residual_network_of_ct_net():
    own = filled(CTNet(2, size=(3, 192, 192))).features
    reference = timm.create_model("resnet18", num_classes=0).eval()
    order = ("conv1", "bn1", "act1", "maxpool", "layer1", "layer2", "layer3", "layer4")
    parts = (name.split(".", 1) for name in own.state_dict())
    names = {f"{number}.{rest}": f"{order[int(number)]}.{rest}" for number, rest in parts}
    reference.load_state_dict({names[name]: value for name, value in own.state_dict().items()})
    images = torch.rand(2, 3, 64, 96)
    with torch.inference_mode():
        torch.testing.assert_close(own(images), reference.forward_features(images), rtol=1e-4, atol=1e-4)
