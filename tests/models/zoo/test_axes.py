"""Published 3D networks see a volume's axes in the order their weights learned them."""

import nibabel as nib
import numpy as np
import pytest
import torch
from nibabel.orientations import axcodes2ornt, ornt_transform

from anymc3d.data.preprocess import prepare_view
from anymc3d.data.volume import Volume
from anymc3d.errors import PluginError
from anymc3d.models.zoo.ctclip import ClassFine
from anymc3d.models.zoo.medicalnet import MedicalNet
from anymc3d.models.zoo.swin import VoCoEncoder
from anymc3d.models.zoo.table import ZOO
from anymc3d.models.zoo.volumes import Sizes, in_order
from anymc3d.settings.views import ViewSettings

S, H, W = 32, 64, 96
"""Sides that cannot be taken for one another: of an axial view z, x and y."""


def ramp(axis: int) -> torch.Tensor:
    """A volume (1, 1, S, H, W) that rises along one of its axes alone."""
    shape = [1, 1, 1, 1, 1]
    shape[axis] = (S, H, W)[axis - 2]
    return torch.linspace(0, 1, shape[axis]).reshape(shape).expand(1, 1, S, H, W).contiguous()


def seen_by(first_layer: torch.nn.Module, network: torch.nn.Module, volume: torch.Tensor) -> torch.Tensor:
    """What reaches the network's first layer."""
    found = []
    handle = first_layer.register_forward_hook(lambda _, inputs, __: found.append(inputs[0]))
    with torch.inference_mode():
        network(volume)
    handle.remove()
    return found[0]


def test_every_3d_network_with_published_weights_says_its_order_and_where_that_is_written():
    """Networks of slices, and those from scratch, have no order of their own."""
    published = {name for name, entry in ZOO.items() if entry.axes_source}
    assert published == {
        *(f"{family}-{strategy}" for family in ("medicalnet", "voco") for strategy in ("linear", "lora", "full")),
        "ct-clip-classfine",
    }
    assert {name: ZOO[name].axes for name in ("voco-lora", "medicalnet-full", "ct-clip-classfine")} == {
        "voco-lora": "xyz",
        "medicalnet-full": "zyx",
        "ct-clip-classfine": "zxy",
    }


def test_H16_voco_sees_x_y_z_as_a_ras_volume_of_monai():
    encoder = VoCoEncoder(width=4, num_heads=(1, 2, 2, 4)).eval()
    for axis, place in ((3, 2), (4, 3), (2, 4)):  # x, y, z of the prepared volume, and where VoCo has them
        seen = seen_by(encoder.swinViT.patch_embed, encoder, ramp(axis))
        assert seen.shape == (1, 1, H, W, S)
        steps = seen.diff(dim=place).abs().amax()
        others = [seen.diff(dim=other).abs().amax() for other in (2, 3, 4) if other != place]
        assert steps > 0 and max(others) == 0


def test_H16_medicalnet_sees_depth_height_width():
    encoder = MedicalNet(depths=(1, 1, 1, 1), widths=(4, 4, 4, 4)).eval()
    seen = seen_by(encoder.conv1, encoder, ramp(3))
    assert seen.shape == (1, 1, S, W, H)
    assert seen.diff(dim=4).abs().amax() > 0 and seen.diff(dim=2).abs().amax() == seen.diff(dim=3).abs().amax() == 0


class FirstLook(torch.nn.Module):
    """Stands for an encoder whose size is fixed."""

    embed_dim = 4

    def forward(self, volume: torch.Tensor) -> torch.Tensor:
        return volume.new_zeros(len(volume), self.embed_dim)


@pytest.mark.parametrize("letters", ["RAS", "LPS", "ASL", "IRP"])
def test_H16_a_scan_however_it_is_stored_reaches_every_published_network_in_its_order(letters, monkeypatch):
    """From a file's own axes to the first layer: nibabel says where right, front and top are, and the network's authors
    in which order. Each voxel has a value of its own, so that no flip and no exchange of axes can hide."""
    ras = np.random.default_rng(0).normal(size=(64, 96, 32)).astype(np.float32)
    image = nib.Nifti1Image(ras, np.diag([1.0, 1.0, 3.0, 1.0]))
    stored = image.as_reoriented(ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(letters)))
    assert "".join(nib.aff2axcodes(stored.affine)) == letters
    view = ViewSettings(size=(64, 96, 32), plane="axial", normalise="zscore")
    prepared = prepare_view(Volume(np.asarray(stored.dataobj), stored.affine), view)
    volume = torch.from_numpy(prepared.slices).float().transpose(0, 1)[None]
    x_y_z = torch.from_numpy((ras - ras.mean()) / ras.std())
    networks = {
        "xyz": (encoder := VoCoEncoder(width=4, num_heads=(1, 2, 2, 4)).eval(), encoder.swinViT.patch_embed),
        "zyx": (encoder := MedicalNet(depths=(1, 1, 1, 1), widths=(4, 4, 4, 4)).eval(), encoder.conv1),
    }
    encoder = FirstLook()
    monkeypatch.setattr(ClassFine, "sizes", Sizes())
    fine = ClassFine(2, torch.Generator(), encoder=encoder).eval()
    networks["zxy"] = (lambda volume: fine(volume, torch.ones(1, 32, dtype=torch.bool)), encoder)
    for order, (network, first_layer) in networks.items():
        seen = seen_by(first_layer, network, volume)[0, 0]
        expected = x_y_z.permute(["xyz".index(axis) for axis in order])
        torch.testing.assert_close(seen, expected, atol=4e-3, rtol=0)


def test_ct_clip_takes_the_prepared_order_as_it_is():
    volume = torch.rand(1, 1, 3, 4, 5)
    assert in_order(volume, ZOO["ct-clip-classfine"].axes).equal(volume)


def test_an_asymmetric_volume_and_its_transpose_have_different_answers():
    """Counts and shapes cannot show a wrong order: only an answer that must change can."""
    for encoder in (VoCoEncoder(width=4, num_heads=(1, 2, 2, 4)), MedicalNet(depths=(1, 1, 1, 1), widths=(4, 4, 4, 4))):
        volume = torch.rand(1, 1, 64, 64, 64, generator=torch.Generator().manual_seed(0)).cumsum(dim=2)
        with torch.inference_mode():
            answers = [encoder.eval()(volume), encoder.eval()(volume.transpose(2, 4))]
        assert not torch.allclose(*answers, atol=1e-4)


def test_a_plugin_of_the_earlier_order_is_refused_in_one_line(tmp_path):
    from dataclasses import replace

    from anymc3d.plugins.file import _check_revision
    from anymc3d.settings.training import MethodSettings

    class Card:
        name, method, training = "old", MethodSettings(name="voco-lora"), {}

    with pytest.raises(PluginError, match="revision 1 of voco-lora, this version has revision 2") as caught:
        _check_revision(Card())
    assert "\n" not in str(caught.value) and "train it again" in str(caught.value)
    Card.training = {"network_revision": 2}
    _check_revision(Card())
    Card.method, Card.training = replace(Card.method, name="resnet18-3d"), {}
    _check_revision(Card())
