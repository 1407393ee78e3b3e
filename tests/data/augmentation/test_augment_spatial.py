"""Flip, rotation, zoom and translation against scipy, and a mask that stays on its organ."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage
import torch
from scipy.spatial.transform import Rotation

from anymc3d.data.augmentation import chunks
from anymc3d.data.augmentation.augment import AugmentationParameters, apply
from anymc3d.data.augmentation.spatial import Placement, placement, resample_mask, resample_slices, rotation_matrix

NO_FLIP = (False, False, False)
SPATIAL = {
    "rotation": AugmentationParameters(rotation=(25.0, -17.0, 11.0)),
    "in-plane rotation": AugmentationParameters(rotation=(-30.0, 0.0, 0.0)),
    "zoom in": AugmentationParameters(zoom=1.4),
    "zoom out": AugmentationParameters(zoom=0.7),
    "translation": AugmentationParameters(translation=(1.3, -4.6, 2.0)),
    "flips": AugmentationParameters(flip=(True, False, True)),
    "all": AugmentationParameters(
        flip=(True, True, False), rotation=(-14.0, 9.0, 22.0), zoom=1.15, translation=(-1.0, 3.5, 2.2)
    ),
}


def place(size: tuple[int, int, int], parameters: AugmentationParameters) -> Placement:
    return placement(
        size,
        flips=parameters.flip,
        rotation=parameters.rotation,
        zoom=parameters.zoom,
        translation=parameters.translation,
    )


def scipy_inverse(size: tuple[int, int, int], parameters: AugmentationParameters) -> tuple[np.ndarray, np.ndarray]:
    """The output-to-input map, built forwards with scipy's rotations and inverted as a 4 x 4 matrix."""
    centre, uncentre, turn, move, mirror = (np.eye(4) for _ in range(5))
    centre[:3, 3] = -(np.array(size) - 1) / 2
    uncentre[:3, 3] = (np.array(size) - 1) / 2
    angles = parameters.rotation or (0.0, 0.0, 0.0)
    turn[:3, :3] = Rotation.from_euler("XYZ", angles, degrees=True).as_matrix() * (parameters.zoom or 1.0)
    move[:3, 3] = parameters.translation or (0.0, 0.0, 0.0)
    mirror[:3, :3] = np.diag([-1.0 if flipped else 1.0 for flipped in parameters.flip])
    inverse = np.linalg.inv(uncentre @ mirror @ move @ turn @ centre)
    return inverse[:3, :3], inverse[:3, 3]


def scipy_resample(stack: np.ndarray, parameters: AugmentationParameters, *, order: int, fill: float) -> np.ndarray:
    """scipy's interpolation, with the first and last slice continued far beyond the stack."""
    beyond = 60
    matrix, offset = scipy_inverse(stack.shape, parameters)
    offset = np.add(offset, (beyond, 0, 0))
    tall = np.pad(stack, ((beyond, beyond), (0, 0), (0, 0)), mode="edge")
    return scipy.ndimage.affine_transform(
        tall, matrix, offset, output_shape=stack.shape, order=order, mode="grid-constant", cval=fill
    )


@pytest.mark.parametrize("parameters", SPATIAL.values(), ids=SPATIAL)
@pytest.mark.parametrize("size", [(9, 21, 26), (1, 17, 12), (2, 12, 12), (3, 16, 9), (30, 8, 8)])
def test_the_placement_is_the_inverse_of_scipys_forward_map(
    size: tuple[int, int, int], parameters: AugmentationParameters
) -> None:
    matrix, offset = scipy_inverse(size, parameters)
    where = place(size, parameters)
    np.testing.assert_allclose(where.matrix, matrix, atol=1e-12)
    np.testing.assert_allclose(where.offset, offset, atol=1e-11)


@pytest.mark.parametrize("parameters", SPATIAL.values(), ids=SPATIAL)
@pytest.mark.parametrize("size", [(9, 21, 26), (1, 17, 12), (2, 12, 12), (3, 16, 9), (30, 8, 8)])
def test_slices_agree_with_scipys_linear_interpolation(
    size: tuple[int, int, int], parameters: AugmentationParameters
) -> None:
    stack = np.random.default_rng(0).random(size, dtype=np.float32)
    ours = resample_slices(torch.from_numpy(stack)[:, None], place(size, parameters), fill=[0.25])
    theirs = scipy_resample(stack.astype(np.float64), parameters, order=1, fill=0.25)
    np.testing.assert_allclose(ours[:, 0].numpy(), theirs, atol=2e-5)


@pytest.mark.parametrize("parameters", SPATIAL.values(), ids=SPATIAL)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int64])
def test_masks_agree_with_scipys_nearest_neighbour(parameters: AugmentationParameters, dtype: torch.dtype) -> None:
    size = (9, 21, 26)
    labels = np.random.default_rng(1).integers(0, 200, size)
    ours = resample_mask(torch.from_numpy(labels).to(dtype), place(size, parameters))
    theirs = scipy_resample(labels, parameters, order=0, fill=0)
    assert ours.dtype == dtype
    # A voxel read exactly between two neighbours may fall to either; elsewhere the two must be equal.
    assert (ours.numpy() != theirs).mean() < (0.06 if parameters.zoom in (0.7, 1.4) else 0.001)


@pytest.mark.parametrize("parameters", SPATIAL.values(), ids=SPATIAL)
@pytest.mark.parametrize("dtype", [torch.bool, torch.int32])
def test_a_labelled_cube_stays_on_its_image(parameters: AugmentationParameters, dtype: torch.dtype) -> None:
    mask = torch.zeros(24, 40, 36, dtype=dtype)
    mask[9:18, 12:25, 8:22] = 1
    slices, moved = apply(parameters, mask.float().unsqueeze(1), mask=mask, value_range=(0.0, 1.0))
    image = slices[:, 0]
    assert moved.sum() > 500
    assert bool((moved[image == 1] == 1).all())
    assert bool((moved[image == 0] == 0).all())
    disagree = (image > 0.5) != (moved == 1)
    assert disagree.float().sum() < 0.05 * moved.sum()


@pytest.mark.parametrize("zoom", [0.7, 1.4])
def test_one_zoom_grows_or_shrinks_the_content_equally_along_the_three_axes(zoom: float) -> None:
    axes = [torch.arange(side, dtype=torch.float32) - (side - 1) / 2 for side in (41, 45, 51)]
    blob = torch.exp(-(axes[0][:, None, None] ** 2 + axes[1][:, None] ** 2 + axes[2] ** 2) / (2 * 4.0**2))
    zoomed = apply(AugmentationParameters(zoom=zoom), blob.unsqueeze(1))[:, 0].double()
    for axis, position in enumerate(axes):
        profile = zoomed.sum(dim=[other for other in range(3) if other != axis])
        width = ((profile * position**2).sum() / profile.sum()).sqrt().item()
        assert width == pytest.approx(4.0 * zoom, rel=0.02)


def test_whole_voxel_translations_move_the_content_and_change_no_value() -> None:
    slices = torch.rand(6, 2, 9, 11)
    moved = apply(AugmentationParameters(translation=(2.0, -3.0, 1.0)), slices, value_range=(0.0, 1.0))
    torch.testing.assert_close(moved[2:, :, :-3, 1:], slices[:-2, :, 3:, :-1], rtol=0, atol=2e-6)
    assert not moved[:, :, -3:].any()
    assert not moved[:, :, :, 0].any()
    torch.testing.assert_close(moved[0], moved[2], rtol=0, atol=0)


def test_a_quarter_turn_about_the_slice_axis_is_numpys() -> None:
    slices = torch.rand(4, 1, 15, 15)
    turned = apply(AugmentationParameters(rotation=(90.0, 0.0, 0.0)), slices)
    np.testing.assert_allclose(turned[:, 0].numpy(), np.rot90(slices[:, 0].numpy(), axes=(1, 2)), atol=2e-5)


def test_rotation_matrices_are_rotations() -> None:
    matrix = rotation_matrix((20.0, -30.0, 10.0))
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(3, dtype=torch.float64))
    assert torch.linalg.det(matrix).item() == pytest.approx(1.0)


def test_flips_within_the_one_resampling_equal_flips_after_it() -> None:
    slices = torch.rand(7, 1, 13, 16)
    settings = {"rotation": (12.0, 8.0, -20.0), "zoom": 0.9, "translation": (0.5, 2.0, -1.0)}
    fused = apply(AugmentationParameters(flip=(True, False, True), **settings), slices)
    apart = apply(AugmentationParameters(**settings), slices).flip(0, 3)
    torch.testing.assert_close(fused, apart, rtol=0, atol=2e-5)


def test_every_channel_moves_as_it_would_alone() -> None:
    slices = torch.rand(5, 3, 12, 10)
    together = apply(SPATIAL["all"], slices, value_range=(0.0, 1.0))
    for channel in range(3):
        alone = apply(SPATIAL["all"], slices[:, channel : channel + 1], value_range=(0.0, 1.0))
        assert torch.equal(together[:, channel : channel + 1], alone)


@pytest.mark.parametrize("num_slices", [1, 2, 3])
def test_few_slices_keep_their_content_under_every_turn(num_slices: int) -> None:
    slices = torch.full((num_slices, 1, 33, 33), 0.5)
    slices[:, :, 11:22, 11:22] = 1.0
    tilted = apply(AugmentationParameters(rotation=(0.0, 30.0, -30.0)), slices, value_range=(0.0, 1.0))
    assert bool((tilted[:, 0, 13:20, 13:20] == 1.0).all())
    assert bool((tilted[:, 0, 8:25, 8:25] >= 0.5).all())


def test_the_surroundings_of_z_scores_are_each_channels_minimum() -> None:
    slices = torch.randn(4, 2, 12, 12)
    moved = apply(AugmentationParameters(translation=(0.0, 4.0, 0.0)), slices)
    for channel in range(2):
        assert bool((moved[:, channel, :4] == slices[:, channel].min()).all())


def test_the_number_of_slices_worked_on_at_once_changes_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    slices, mask = torch.rand(11, 2, 19, 23), torch.randint(0, 9, (11, 19, 23))
    whole = apply(SPATIAL["all"], slices, mask=mask)
    monkeypatch.setattr(chunks, "_CPU_VOXELS", 1)
    for one, other in zip(apply(SPATIAL["all"], slices, mask=mask), whole, strict=True):
        assert torch.equal(one, other)
