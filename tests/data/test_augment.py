"""The table, the draw and the order of the operations; the operations themselves have files of their own."""

from __future__ import annotations

import pytest
import torch

from anymc3d.data.augment import AUGMENTATIONS, AugmentationParameters, apply, draw, recipe
from anymc3d.errors import UsageError


def test_an_unknown_recipe_names_the_nearest_one() -> None:
    with pytest.raises(UsageError, match="did you mean 'flips'"):
        recipe("flip")
    assert recipe("paper") is AUGMENTATIONS["paper"]


@pytest.mark.parametrize("flip", [(a, b, c) for a in (False, True) for b in (False, True) for c in (False, True)])
def test_flips_alone_move_voxels_and_change_no_bit(flip: tuple[bool, bool, bool]) -> None:
    slices = torch.randn(3, 2, 4, 5)
    mask = torch.randint(0, 3, (3, 4, 5))
    flipped, flipped_mask = apply(AugmentationParameters(flip=flip), slices, mask=mask)
    step = [-1 if reverse else 1 for reverse in flip]
    assert (flipped.numpy() == slices.numpy()[:: step[0], :, :: step[1], :: step[2]]).all()
    assert (flipped_mask.numpy() == mask.numpy()[:: step[0], :: step[1], :: step[2]]).all()


def test_the_recipe_none_changes_nothing() -> None:
    parameters = draw(recipe("none"), generator=torch.Generator().manual_seed(0), shape=(3, 1, 4, 5))
    slices = torch.randn(3, 1, 4, 5)
    assert torch.equal(apply(parameters, slices), slices)
