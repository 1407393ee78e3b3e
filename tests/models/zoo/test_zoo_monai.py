"""The same weights give the same answers in MONAI, where it is installed."""

import pytest
import torch

from anymc3d.models.zoo.densenet import DenseNet
from anymc3d.models.zoo.resnet import resnet18_3d

nets = pytest.importorskip("monai.networks.nets", reason="MONAI is not installed", exc_type=ImportError)


def theirs(name: str) -> torch.nn.Module:
    if name == "densenet":
        return nets.DenseNet121(spatial_dims=3, in_channels=1, out_channels=2)
    return nets.resnet18(spatial_dims=3, n_input_channels=1, num_classes=2, conv1_t_stride=2)


@pytest.mark.parametrize("name", ["densenet", "resnet"])
def test_monai_gives_the_same_answer_with_the_same_weights(name):
    own = DenseNet(2, 1) if name == "densenet" else resnet18_3d(2, 1)
    reference = theirs(name).eval()
    reference.load_state_dict(own.state_dict())
    volume = torch.rand(2, 1, 33, 36, 40, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        answer = own.eval()(volume, torch.ones(2, 33, dtype=torch.bool))
        torch.testing.assert_close(answer, reference(volume))
