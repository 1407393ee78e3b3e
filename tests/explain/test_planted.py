"""A heatmap must lie on what the classifier reads, whatever the storage of the scan: a network that can only see
brightness, built by hand, and bright lesions planted in a head. Nothing is trained, so nothing here is a matter of
luck."""

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from anymc3d.cli.options.inputs import read_inputs
from anymc3d.evaluate.localisation import localise
from anymc3d.explain.heatmaps import explain_case
from anymc3d.explain.methods import METHODS
from anymc3d.predict.predictor import load

ANCHOR, SHARPNESS, LOUDNESS = 20.0, 10.0, 10.0
PATCH = 14


@pytest.fixture(scope="module")
def brightness_reader(journey):
    """The journey's plugin and backbone with weights such that class token and logit are the brightest patch."""
    predictor = load(journey.plugin, device="cpu")
    (resident,) = predictor.residents
    network, classifier = resident.backbone.module, resident.members[0].classifier
    width, head_dim = network.embed_dim, network.config.head_dim
    with torch.no_grad():
        for name, parameter in [*network.named_parameters(), *classifier.named_parameters()]:
            keeps = ("norm" in name and name.endswith("weight")) or name.endswith("gamma")
            parameter.fill_(1.0 if keeps else 0.0)
        # Channel 0 is brightness; channels 1 and 2 are the same in all tokens, so that the norm leaves channel 0 alone.
        network.patch_embed.proj.weight[0] = 1 / (3 * PATCH**2)
        for anchored in (network.patch_embed.proj.bias, network.cls_token[0, 0]):
            anchored[1], anchored[2] = ANCHOR, -ANCHOR
        attention = network.blocks[-1].attn
        for head in range(network.config.num_heads):
            start = head * head_dim
            attention.qkv.weight[start, 1] = 1.0
            attention.qkv.weight[width + start, 0] = SHARPNESS
            attention.qkv.weight[2 * width + start, 0] = 1.0
            attention.proj.weight[0, start] = LOUDNESS / network.config.num_heads
        classifier.slice_fusion["image"].query[0] = 2 * width**0.5
        classifier.head.weight[1, 0] = 1.0
    return predictor


def set_view(predictor, monkeypatch, **changes):
    (resident,) = predictor.residents
    view = replace(resident.plugin.card.preprocessing["image"], **changes)
    monkeypatch.setitem(resident.plugin.card.preprocessing, "image", view)
    return view


def synthetic_head():
    """An ellipsoid with soft texture, 64 x 80 x 56 voxels of 2.5 x 2 x 3 mm, and where its inside is."""
    shape = (64, 80, 56)
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij"))
    inside = (grid**2).sum(0) < 0.8
    texture = gaussian_filter(np.random.default_rng(0).normal(size=shape), 3)
    voxels = np.where(inside, 100 + 10 * texture / texture.std(), 5).astype(np.float32)
    affine = np.diag([2.5, 2.0, 3.0, 1.0])
    affine[:3, 3] = (-80, -70, -60)
    return voxels, affine, (grid**2).sum(0) < 0.3


def plant(voxels, affine, inside, seed, radius_mm=26.0):
    """The same head with a bright ball about a random voxel of ``inside``, and the ball's mask."""
    places = np.argwhere(inside)
    centre = places[np.random.default_rng(seed).integers(len(places))]
    offsets = np.indices(voxels.shape).reshape(3, -1).T - centre
    mask = (np.linalg.norm(offsets @ affine[:3, :3].T, axis=1) <= radius_mm).reshape(voxels.shape)
    planted = voxels.copy()
    planted[mask] = 1.5 * np.percentile(voxels, 99.9)
    return planted, mask


def reoriented(array, affine, codes):
    image = nib.Nifti1Image(array, affine)
    turn = nib.orientations.ornt_transform(nib.io_orientation(affine), nib.orientations.axcodes2ornt(codes))
    return image.as_reoriented(turn)


def tilted(affine, degrees):
    angle = np.deg2rad(degrees)
    turn = np.eye(4)
    turn[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return turn @ affine


def heats_of(predictor, array, affine, path, codes="RAS"):
    nib.save(reoriented(array.astype(np.float32), affine, codes), path)
    (case,) = read_inputs([str(path)])
    return explain_case(predictor, case, methods=tuple(name for name, method in METHODS.items() if method.attention))


def assert_points_at(found, mask_image, patch_mm):
    mask = np.asarray(mask_image.dataobj) > 0
    for heat in found.heats:
        score = localise(heat.values, mask, heat.affine)
        assert score.peak_distance_mm <= patch_mm, (heat.method, score)
        assert score.mass_in_mask > 1.5 * score.mask_share, (heat.method, score)


VIEWS = {
    "whole, axial, not square": {"plane": "axial", "size": (98, 70, 10)},
    "coronal": {"plane": "coronal", "size": (70, 84, 12)},
    "sagittal": {"plane": "sagittal", "size": (84, 84, 9)},
    "cropped and padded": {"plane": "axial", "size": (84, 98, 8), "field_of_view": (180.0, 120.0, 150.0)},
}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize(("codes", "degrees"), [("RAS", 0), ("LPS", 0), ("PSR", 17)])
def test_the_peak_is_within_a_patch_of_the_lesion(brightness_reader, tmp_path, monkeypatch, view, codes, degrees):
    settings = set_view(brightness_reader, monkeypatch, **VIEWS[view])
    voxels, affine, inside = synthetic_head()
    affine = tilted(affine, degrees)
    planted, mask = plant(voxels, affine, inside, seed=len(view) + degrees)
    found = heats_of(brightness_reader, planted, affine, tmp_path / "scan.nii", codes)
    extent = settings.field_of_view or [n * s for n, s in zip(voxels.shape, (2.5, 2.0, 3.0), strict=True)]
    patch_mm = PATCH * max(extent) / min(settings.size[:2])
    assert_points_at(found, reoriented(mask.astype(np.uint8), affine, codes), patch_mm)


def test_without_the_lesion_logit_and_heat_are_lower(brightness_reader, tmp_path, monkeypatch):
    set_view(brightness_reader, monkeypatch, size=(84, 98, 10))
    voxels, affine, inside = synthetic_head()
    planted, _ = plant(voxels, affine, inside, seed=3)
    # Equal grey levels, so that the lesion alone is the difference.
    set_view(brightness_reader, monkeypatch, normalise="window", windows=((0.0, 170.0),))
    with_lesion = heats_of(brightness_reader, planted, affine, tmp_path / "with.nii")
    without = heats_of(brightness_reader, voxels, affine, tmp_path / "without.nii")
    assert without.prediction.logits["block"] < with_lesion.prediction.logits["block"]
    for there, gone in zip(with_lesion.heats, without.heats, strict=True):
        assert gone.highest < there.highest, there.method


@pytest.mark.real_data
@pytest.mark.parametrize("seed", [0, 1])
def test_planted_in_a_real_head_stored_as_psr(brightness_reader, shared, tmp_path, monkeypatch, seed):
    set_view(brightness_reader, monkeypatch, plane="coronal", size=(84, 112, 10))
    path = sorted((shared / "data" / "ixi_t1" / "nifti").glob("*.nii.gz"))[seed]
    scan = nib.load(path)
    regions = nib.load(shared / "data" / "ixi_t1" / "dlmuse" / path.name.replace(".nii.gz", "_DLMUSE.nii.gz"))
    planted, mask = plant(scan.get_fdata(dtype=np.float32), scan.affine, np.asarray(regions.dataobj) > 0, seed)
    codes = "".join(nib.aff2axcodes(scan.affine))
    assert codes == "PSR"
    found = heats_of(brightness_reader, planted, scan.affine, tmp_path / "scan.nii", codes)
    assert_points_at(found, nib.Nifti1Image(mask.astype(np.uint8), scan.affine), PATCH * 240 / 84)
