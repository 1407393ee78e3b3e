"""The table, the draw and the order of the operations; the operations themselves have files of their own."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
import scipy.stats
import torch

from anymc3d.data.augmentation.augment import AUGMENTATIONS, AugmentationParameters, Chance, apply, draw, recipe
from anymc3d.errors import UsageError

NUM_DRAWS = 10_000
PAPER_SHAPE = (70, 1, 224, 224)
SUPPLEMENT_A3 = {
    "rotation": (0.2, -30.0, 30.0),
    "zoom": (0.2, 0.7, 1.4),
    "translation": (0.2, -10.0, 10.0),
    "noise": (0.25, 0.0, 0.1),
    "blur": (0.2, 0.5, 1.0),
    "brightness": (0.15, 0.75, 1.25),
    "contrast": (0.15, 0.75, 1.25),
    "low_resolution": (0.2, 0.5, 1.0),
    "gamma_inverted": (0.2, 0.7, 1.5),
    "gamma": (0.3, 0.7, 1.5),
}
EVERYTHING = AugmentationParameters(
    flip=(True, False, True),
    rotation=(20.0, -15.0, 12.0),
    zoom=1.2,
    translation=(1.0, 4.0, -3.0),
    noise=0.05,
    noise_seed=7,
    blur=0.8,
    brightness=1.2,
    contrast=1.15,
    low_resolution=0.7,
    gamma_inverted=0.8,
    gamma=1.3,
)


@pytest.fixture(scope="module")
def paper_draws() -> list[AugmentationParameters]:
    generator = torch.Generator().manual_seed(20)
    return [draw(recipe("paper"), generator=generator, shape=PAPER_SHAPE) for _ in range(NUM_DRAWS)]


def numbers(draws: list[AugmentationParameters], name: str) -> np.ndarray:
    """What was drawn where the operation happens: (happened, 1) or (happened, 3)."""
    drawn = [getattr(one, name) for one in draws]
    return np.array([np.atleast_1d(value) for value in drawn if value is not None])


def is_binomial(count: int, probability: float, total: int = NUM_DRAWS) -> bool:
    return scipy.stats.binomtest(count, total, probability).pvalue > 1e-4


def test_an_unknown_recipe_names_the_nearest_one() -> None:
    with pytest.raises(UsageError, match="did you mean 'flips'"):
        recipe("flip")
    assert recipe("paper") is AUGMENTATIONS["paper"]


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"probability": 1.2, "low": 0.0, "high": 1.0}, "expected a probability, 0 to 1, got 1.2"),
        ({"probability": 0.2, "low": 1.0, "high": 1.0}, "expected low below high"),
        ({"probability": 0.2, "low": 1.1, "high": 1.3, "around_one": True}, "on both sides of 1"),
    ],
)
def test_an_impossible_chance_is_refused_where_it_is_built(settings: dict[str, float], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        Chance(**settings)


@pytest.mark.parametrize("name", SUPPLEMENT_A3)
def test_every_operation_happens_as_often_and_as_far_as_supplement_a3_says(
    paper_draws: list[AugmentationParameters], name: str
) -> None:
    probability, low, high = SUPPLEMENT_A3[name]
    drawn = numbers(paper_draws, name)
    assert is_binomial(len(drawn), probability)
    assert low <= drawn.min() < low + 0.01 * (high - low)
    assert high - 0.01 * (high - low) < drawn.max() <= high
    for column in drawn.T:
        assert scipy.stats.kstest((column - low) / (high - low), "uniform").pvalue > 1e-4


@pytest.mark.parametrize("name", ["flips", "paper"])
def test_each_axis_is_flipped_in_half_of_the_draws_independently(paper_draws, name: str) -> None:
    generator = torch.Generator().manual_seed(3)
    of_flips = (draw(recipe("flips"), generator=generator, shape=PAPER_SHAPE) for _ in range(NUM_DRAWS))
    flips = np.array([one.flip for one in (paper_draws if name == "paper" else of_flips)])
    assert all(is_binomial(int(count), 0.5) for count in flips.sum(axis=0))
    combinations = np.bincount(flips @ [1, 2, 4], minlength=8)
    assert scipy.stats.chisquare(combinations).pvalue > 1e-4


@pytest.mark.parametrize("name", ["rotation", "translation"])
def test_the_three_axes_are_drawn_apart(paper_draws: list[AugmentationParameters], name: str) -> None:
    correlation = np.corrcoef(numbers(paper_draws, name).T)
    assert np.abs(correlation[np.triu_indices(3, 1)]).max() < 0.1


def test_operations_happen_independently_of_each_other(paper_draws: list[AugmentationParameters]) -> None:
    happened = np.array([[getattr(one, name) is not None for name in SUPPLEMENT_A3] for one in paper_draws])
    correlation = np.corrcoef(happened.T.astype(float))
    assert np.abs(correlation[np.triu_indices(len(SUPPLEMENT_A3), 1)]).max() < 0.05


def test_multipliers_fall_on_either_side_of_one_equally_often_whatever_the_bounds() -> None:
    chance = dataclasses.replace(AUGMENTATIONS["paper"].brightness, probability=1.0, low=0.9, high=3.0)
    lopsided = dataclasses.replace(AUGMENTATIONS["none"], brightness=chance)
    generator = torch.Generator().manual_seed(1)
    drawn = np.array([draw(lopsided, generator=generator, shape=PAPER_SHAPE).brightness for _ in range(NUM_DRAWS)])
    assert is_binomial(int((drawn < 1).sum()), 0.5)
    assert scipy.stats.kstest((drawn[drawn < 1] - 0.9) / 0.1, "uniform").pvalue > 1e-4
    assert scipy.stats.kstest((drawn[drawn > 1] - 1.0) / 2.0, "uniform").pvalue > 1e-4


def test_a_draw_takes_as_many_random_numbers_whatever_its_outcome() -> None:
    after = []
    for name in AUGMENTATIONS:
        generator = torch.Generator().manual_seed(8)
        for shape in (PAPER_SHAPE, (1, 3, 64, 64)):
            draw(recipe(name), generator=generator, shape=shape)
        after.append(torch.rand(4, generator=generator))
    assert all(torch.equal(after[0], other) for other in after[1:])


def test_a_draw_follows_its_seed_and_survives_json() -> None:
    first, again = (
        draw(recipe("paper"), generator=torch.Generator().manual_seed(4), shape=PAPER_SHAPE) for _ in range(2)
    )
    assert first == again
    assert json.loads(json.dumps(dataclasses.asdict(EVERYTHING)))["rotation"] == [20.0, -15.0, 12.0]


def test_noise_seeds_differ_between_draws(paper_draws: list[AugmentationParameters]) -> None:
    assert len({one.noise_seed for one in paper_draws}) == NUM_DRAWS


@pytest.mark.parametrize(("num_slices", "farthest"), [(1, 0.0), (3, 0.8), (11, 4.0), (26, 10.0), (70, 10.0)])
def test_a_short_stack_is_not_pushed_out_of_its_frame(num_slices: int, farthest: float) -> None:
    generator = torch.Generator().manual_seed(2)
    draws = [draw(recipe("paper"), generator=generator, shape=(num_slices, 1, 224, 224)) for _ in range(2000)]
    moves = np.abs(numbers(draws, "translation"))
    assert moves[:, 0].max() <= farthest + 1e-12
    assert moves[:, 0].max() >= 0.95 * farthest
    assert moves[:, 1:].max() > 9.5


@pytest.mark.parametrize(
    ("shape", "tilts"),
    [
        ((28, 1, 320, 320), True),
        ((240, 3, 476, 476), True),
        ((40, 3, 224, 192), True),
        ((64, 1, 64, 64), True),
        ((3, 1, 224, 224), False),
        ((1, 1, 64, 64), False),
    ],
)
def test_every_size_of_the_paper_tilts_and_a_few_slices_turn_in_plane(
    shape: tuple[int, int, int, int], tilts: bool
) -> None:
    generator = torch.Generator().manual_seed(6)
    angles = numbers([draw(recipe("paper"), generator=generator, shape=shape) for _ in range(1000)], "rotation")
    assert np.abs(angles[:, 0]).max() > 25
    assert (np.abs(angles[:, 1:]).max() > 25) == tilts
    assert tilts or not angles[:, 1:].any()


@pytest.mark.parametrize(
    ("shape", "tilts"), [((28, 1, 320, 320), False), ((70, 1, 240, 432), False), ((70, 1, 160, 160), True)]
)
def test_thin_stacks_turn_in_plane_where_the_recipe_says_so(shape: tuple[int, int, int, int], tilts: bool) -> None:
    """The limit is the recipe's; it changes nothing else, and takes no other numbers from the generator."""
    drawn = {}
    for name in ("paper", "paper-flat"):
        generator = torch.Generator().manual_seed(6)
        drawn[name] = [draw(recipe(name), generator=generator, shape=shape) for _ in range(300)]
    angles = numbers(drawn["paper-flat"], "rotation")
    assert np.abs(angles[:, 0]).max() > 25
    assert bool(angles[:, 1:].any()) == tilts
    for one, flat in zip(drawn["paper"], drawn["paper-flat"], strict=True):
        assert dataclasses.replace(one, rotation=None) == dataclasses.replace(flat, rotation=None)
        assert (one.rotation is None) == (flat.rotation is None)
        assert one.rotation is None or one.rotation[0] == flat.rotation[0]


@pytest.mark.parametrize("flip", [(a, b, c) for a in (False, True) for b in (False, True) for c in (False, True)])
def test_flips_alone_move_voxels_and_change_no_bit(flip: tuple[bool, bool, bool]) -> None:
    slices = torch.randn(3, 2, 4, 5)
    mask = torch.randint(0, 3, (3, 4, 5))
    flipped, flipped_mask = apply(AugmentationParameters(flip=flip), slices, mask=mask)
    step = [-1 if reverse else 1 for reverse in flip]
    assert (flipped.numpy() == slices.numpy()[:: step[0], :, :: step[1], :: step[2]]).all()
    assert (flipped_mask.numpy() == mask.numpy()[:: step[0], :: step[1], :: step[2]]).all()


def test_parameters_that_change_nothing_change_no_bit_and_share_no_memory() -> None:
    slices, mask = torch.randn(3, 1, 4, 5) * 9, torch.randint(0, 3, (3, 4, 5))
    parameters = draw(recipe("none"), generator=torch.Generator().manual_seed(0), shape=(3, 1, 4, 5))
    same, same_mask = apply(parameters, slices, mask=mask, value_range=(0.0, 1.0))
    assert torch.equal(same, slices)
    assert torch.equal(same_mask, mask)
    assert same.data_ptr() != slices.data_ptr()
    assert same_mask.data_ptr() != mask.data_ptr()


def test_the_whole_chain_is_repeatable_and_leaves_its_inputs_alone() -> None:
    slices, mask = torch.rand(9, 2, 20, 24), torch.randint(0, 3, (9, 20, 24))
    before, mask_before = slices.clone(), mask.clone()
    first, first_mask = apply(EVERYTHING, slices, mask=mask, value_range=(0.0, 1.0))
    again, again_mask = apply(EVERYTHING, slices, mask=mask, value_range=(0.0, 1.0))
    assert torch.equal(first, again)
    assert torch.equal(first_mask, again_mask)
    assert torch.equal(slices, before)
    assert torch.equal(mask, mask_before)
    assert not torch.equal(first, slices)


def test_the_operations_follow_each_other_in_nnunets_order() -> None:
    slices = torch.randn(9, 1, 20, 24)
    spatial = AugmentationParameters(
        flip=EVERYTHING.flip,
        rotation=EVERYTHING.rotation,
        zoom=EVERYTHING.zoom,
        translation=EVERYTHING.translation,
    )
    expected = apply(spatial, slices)
    order = ("noise", "blur", "brightness", "contrast", "low_resolution", "gamma_inverted", "gamma")
    for name in order:
        step = AugmentationParameters(**{name: getattr(EVERYTHING, name)}, noise_seed=EVERYTHING.noise_seed)
        expected = apply(step, expected)
    assert torch.equal(apply(EVERYTHING, slices), expected)


@pytest.mark.parametrize("shape", [(2, 1, 223, 221), (70, 1, 33, 31), (1, 3, 301, 257), (1, 1, 500, 500)])
def test_the_number_of_threads_changes_no_bit(shape: tuple[int, int, int, int]) -> None:
    slices, mask = torch.rand(shape), torch.randint(0, 3, (shape[0], *shape[2:]))
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(apply(EVERYTHING, slices, mask=mask, value_range=(0.0, 1.0)))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert torch.equal(results[0][0], other[0])
        assert torch.equal(results[0][1], other[1])


@pytest.mark.parametrize("name", ["brightness", "contrast", "gamma", "gamma_inverted", "blur", "low_resolution"])
def test_windowed_values_stay_in_their_range(name: str) -> None:
    slices = torch.rand(4, 1, 20, 20)
    slices[0] = 1.0
    changed = apply(AugmentationParameters(**{name: 1.5 if "gamma" in name else 0.75}), slices, value_range=(0.0, 1.0))
    assert 0.0 <= changed.min() <= changed.max() <= 1.0
    brighter = apply(AugmentationParameters(brightness=1.25), slices, value_range=(0.0, 1.0))
    assert brighter.max() == 1.0


def test_noise_may_leave_the_range_and_no_later_operation_cuts_it() -> None:
    slices = torch.rand(4, 1, 30, 30).round()
    noisy = apply(AugmentationParameters(noise=0.1), slices, value_range=(0.0, 1.0))
    assert noisy.min() < -0.1
    assert noisy.max() > 1.1
    darker = apply(AugmentationParameters(noise=0.1, brightness=0.9), slices, value_range=(0.0, 1.0))
    torch.testing.assert_close(darker, noisy * 0.9)


def test_z_scores_are_never_clipped() -> None:
    slices = torch.randn(4, 1, 30, 30) * 2
    brighter = apply(AugmentationParameters(brightness=1.25), slices)
    assert torch.equal(brighter, slices * 1.25)
    whole = apply(EVERYTHING, slices)
    assert whole.min() < -1.0
    assert whole.max() > 1.0


@pytest.mark.parametrize("shape", [(1, 1, 14, 14), (1, 1, 1, 1), (3, 3, 28, 14), (2, 1, 5, 64), (40, 1, 8, 8)])
def test_the_whole_chain_takes_every_shape(shape: tuple[int, int, int, int]) -> None:
    generator = torch.Generator().manual_seed(1)
    slices = torch.rand(shape, generator=generator)
    for parameters in (EVERYTHING, *(draw(recipe("paper"), generator=generator, shape=shape) for _ in range(20))):
        changed = apply(parameters, slices, value_range=(0.0, 1.0))
        assert changed.shape == shape
        assert bool(changed.isfinite().all())


def test_strided_slices_give_the_bits_of_contiguous_ones() -> None:
    volume = torch.rand(12, 10, 7)
    slices = volume.permute(2, 0, 1).unsqueeze(1)
    assert torch.equal(apply(EVERYTHING, slices), apply(EVERYTHING, slices.contiguous()))


@pytest.mark.parametrize(
    "slices",
    [torch.rand(3, 4, 5), torch.rand(3, 1, 4, 5).double(), torch.rand(0, 1, 4, 5)],
    ids=["3D", "double", "empty"],
)
def test_slices_of_another_shape_or_type_are_refused(slices: torch.Tensor) -> None:
    with pytest.raises(UsageError, match=r"expected float32 slices of shape \(S, C, H, W\)"):
        apply(EVERYTHING, slices)


@pytest.mark.parametrize("mask", [torch.zeros(3, 4, 6, dtype=torch.uint8), torch.zeros(3, 4, 5)], ids=["size", "float"])
def test_a_mask_that_does_not_fit_is_refused(mask: torch.Tensor) -> None:
    with pytest.raises(UsageError, match="expected an integer or boolean mask"):
        apply(EVERYTHING, torch.rand(3, 1, 4, 5), mask=mask)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_gives_the_cpus_result() -> None:
    slices, mask = torch.rand(9, 2, 40, 44), torch.randint(0, 3, (9, 40, 44))
    quiet = dataclasses.replace(EVERYTHING, noise=None)
    expected, expected_mask = apply(quiet, slices, mask=mask, value_range=(0.0, 1.0))
    changed, changed_mask = apply(quiet, slices.cuda(), mask=mask.cuda(), value_range=(0.0, 1.0))
    torch.testing.assert_close(changed.cpu(), expected, rtol=0, atol=1e-4)
    assert (changed_mask.cpu() != expected_mask).float().mean() < 1e-3
    with pytest.raises(UsageError, match="expected a CPU generator"):
        draw(recipe("flips"), generator=torch.Generator("cuda"), shape=PAPER_SHAPE)
    noisy = apply(AugmentationParameters(noise=0.1), slices.cuda()).cpu() - slices
    assert math.isclose(noisy.std().item(), 0.1, rel_tol=0.05)
