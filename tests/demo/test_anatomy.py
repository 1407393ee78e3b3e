"""The demo's head: a real template where nilearn is installed, a phantom of the same make-up where it is not."""

import importlib.util
import socket
import sys

import numpy as np
import pytest

from anymc3d.demo import anatomy as anatomy_module
from anymc3d.demo.anatomy import load_anatomy, phantom


@pytest.fixture(scope="module")
def template():
    if importlib.util.find_spec("nilearn") is None:
        pytest.skip("needs nilearn (the demo extra)")
    return load_anatomy()


def assert_brain_like(head):
    """A T1 brain: 1 to 2 litres, tissue brighter than fluid, in millimetres about the origin."""
    litres = head.brain.sum() * abs(np.linalg.det(head.affine[:3, :3])) / 1e6
    assert 1.0 < litres < 2.2
    assert head.voxels.dtype == np.float32
    assert not head.voxels[~head.brain].any()
    assert not (head.tissue & ~head.brain).any()
    assert 0.6 < head.tissue.sum() / head.brain.sum() < 0.98
    assert head.voxels[head.tissue].mean() > head.voxels[head.brain & ~head.tissue].mean() + 0.1
    assert np.abs(head.centre).max() < 25


def test_the_template_is_a_brain_in_its_own_millimetres(template):
    assert_brain_like(template)
    assert "MNI152" in template.source
    # The anterior commissure is the origin of the template: tissue about it, ventricle 15 mm behind and above.
    to_voxel = np.linalg.inv(template.affine)
    lateral_ventricle = np.round(to_voxel @ [-6, 8, 18, 1])[:3].astype(int)
    corpus_callosum = np.round(to_voxel @ [0, 26, 6, 1])[:3].astype(int)
    assert template.voxels[tuple(corpus_callosum)] > 0.75
    assert template.voxels[tuple(lateral_ventricle)] < 0.6


def test_the_template_matches_nilearns_own_reading(template):
    from nilearn import datasets, image

    theirs = datasets.load_mni152_template(resolution=1)
    ours = image.resample_to_img(
        image.new_img_like(theirs, template.voxels, template.affine), theirs, force_resample=True, copy_header=True
    )
    where = theirs.get_fdata() > 0.3
    assert np.corrcoef(ours.get_fdata()[where], theirs.get_fdata()[where])[0, 1] > 0.95


def test_reading_the_template_opens_no_connection_and_imports_no_nilearn(template, monkeypatch):
    def refuse(*_):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    for name in [name for name in sys.modules if name.partition(".")[0] == "nilearn"]:
        monkeypatch.delitem(sys.modules, name)
    assert load_anatomy().source == template.source
    assert "nilearn" not in sys.modules


def test_without_nilearn_the_phantom_stands_in_and_says_so(monkeypatch, caplog):
    monkeypatch.setattr(anatomy_module.importlib.util, "find_spec", lambda _: None)
    head = load_anatomy()
    assert "phantom" in head.source
    assert "phantom" in caplog.text


def test_the_phantom_is_a_brain_and_always_the_same():
    first, second = phantom(), phantom()
    assert_brain_like(first)
    assert np.array_equal(first.voxels, second.voxels)
