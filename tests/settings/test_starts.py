"""What null means in ``train``: one table, the same in the code and in the documentation."""

import re
from pathlib import Path

import pytest

from anymc3d.errors import UsageError
from anymc3d.settings.starts import PAPER, STARTS, filled
from anymc3d.settings.training import TrainSettings

PAGE = Path(__file__).parents[2] / "docs" / "task-file-training.md"


def test_without_a_word_it_is_the_recipe_of_the_paper():
    train = filled(TrainSettings())
    assert train.start == PAPER
    assert (train.lora_lr, train.head_lr, train.loss) == (1e-4, 1e-3, "focal")
    assert (train.standardise, train.warmup, train.clip) == (False, 0.0, "joint")


@pytest.mark.parametrize("start", STARTS)
def test_what_is_set_stays_and_what_is_filled_is_whole(start):
    train = filled(TrainSettings(start=start, head_lr=0.5, warmup=0.0, standardise=False))
    assert (train.head_lr, train.warmup, train.standardise) == (0.5, 0.0, False)
    assert filled(train) == train
    assert None not in [getattr(train, key) for key in vars(STARTS[start])]


@pytest.mark.parametrize("warmup", [-0.1, 1.0])
def test_a_warmup_is_a_part_of_the_run(warmup):
    with pytest.raises(UsageError, match=r"train\.warmup: expected 0 to below 1"):
        TrainSettings(warmup=warmup)


def test_the_table_of_the_documentation_is_this_one():
    found = re.findall(r"^\| `train\.(\w+)` \| `([\w.-]+)` \| `([\w.-]+)` \|$", PAGE.read_text(), re.MULTILINE)
    told = {key: (random, frozen) for key, random, frozen in found}
    assert told == {
        key: tuple(str(getattr(recipe, key)).lower() for recipe in (STARTS["random"], STARTS["frozen"]))
        for key in vars(STARTS["random"])
    }
