"""Learning rates over a run, and gradients that are shortened together or apart."""

import math

import pytest
import torch

from anymc3d.models.classifier import VolumeClassifier
from anymc3d.models.store import find_backbone
from anymc3d.settings.training import TrainSettings
from anymc3d.train.optimisation import build_optimizer, clip_gradients, learning_rate_factor


def test_the_rate_rises_in_a_line_then_falls_as_half_a_cosine_over_what_is_left():
    rates = [learning_rate_factor(step, 100, "cosine", 0.1) for step in range(101)]
    assert rates[:10] == pytest.approx([(step + 1) / 11 for step in range(10)])
    assert rates[10] == 1.0
    assert rates[55] == pytest.approx(0.5)
    assert rates[100] == pytest.approx(0.0)
    assert [learning_rate_factor(step, 100, "constant", 0.1) for step in (0, 10, 99)] == [1 / 11, 1.0, 1.0]


def test_without_a_warmup_it_is_half_a_cosine():
    for step in (0, 1, 50, 99):
        assert learning_rate_factor(step, 100, "cosine") == pytest.approx(0.5 * (1 + math.cos(math.pi * step / 100)))


@pytest.fixture
def classifier():
    made = VolumeClassifier(find_backbone("tiny-random").module, views=("image",), num_logits=2)
    for name, parameter in made.named_parameters():
        parameter.grad = torch.full_like(parameter, 1e-3 if name.startswith("lora.") else 10.0)
    return made


def norms(classifier):
    groups = {"lora": [], "rest": []}
    for name, parameter in classifier.named_parameters():
        groups["lora" if name.startswith("lora.") else "rest"].append(parameter.grad.norm())
    return {name: float(torch.stack(found).norm()) for name, found in groups.items()}


def test_joint_clipping_shortens_lora_by_the_norm_of_the_head(classifier):
    before = norms(classifier)
    said = clip_gradients(classifier, TrainSettings(clip="joint"), with_decoder=False)
    assert said == pytest.approx(math.hypot(*before.values()), rel=1e-4)
    after = norms(classifier)
    assert math.hypot(*after.values()) == pytest.approx(1.0, rel=1e-4)
    assert after["lora"] / before["lora"] == pytest.approx(after["rest"] / before["rest"], rel=1e-4)


def test_clipped_by_group_lora_keeps_its_step_whatever_the_head_does(classifier):
    before = norms(classifier)
    assert before["lora"] < 1 < before["rest"]
    clip_gradients(classifier, TrainSettings(clip="group"), with_decoder=False)
    assert norms(classifier) == pytest.approx({"lora": before["lora"], "rest": 1.0}, rel=1e-4)


@pytest.mark.parametrize(("start", "rates"), [("random", [1e-4, 1e-3]), ("frozen", [1e-3, 1e-4])])
def test_rates_that_are_not_set_are_the_starts(classifier, start, rates):
    groups = build_optimizer(classifier, TrainSettings(start=start)).param_groups
    assert [group["base_lr"] for group in groups] == rates
    groups = build_optimizer(classifier, TrainSettings(start=start, head_lr=0.5)).param_groups
    assert [group["base_lr"] for group in groups] == [rates[0], 0.5]
