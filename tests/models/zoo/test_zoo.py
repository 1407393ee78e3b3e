"""One test over every network of the zoo: counts, answers, gradients, padding, seeds, files, refusals.

Counts are of the networks as the table builds them, without memory for the weights. Answers are those of narrow and
shallow ones of the same classes where the whole one would take seconds.
"""

import copy
from dataclasses import replace

import pytest
import torch
import zoo_cases
import zoo_cases_rsna
from torch import nn

from anymc3d.errors import UsageError
from anymc3d.models.zoo.entry import ZooEntry, count_parameters
from anymc3d.models.zoo.table import ZOO, methods_table, zoo_entry

K = 3
CASES = (zoo_cases, zoo_cases_rsna)
"""Modules with the counts and the quick networks of some entries each; a new network has its own."""
COUNTS = {name: counts for cases in CASES for name, counts in cases.COUNTS.items()}
SMALL = {name: quick for cases in CASES for name, quick in cases.SMALL.items()}
UNUSED = {name: parameters for cases in CASES for name, parameters in cases.UNUSED.items()}

every = pytest.mark.parametrize("name", ZOO)


def small(name: str) -> tuple[ZooEntry, int, tuple[int, int, int]]:
    """An entry with its builder replaced by a quick one, its least channels, and a size for it."""
    builder, size = SMALL[name]
    return replace(ZOO[name], builder=builder), min(ZOO[name].channels), size


def batch(channels: int, size: tuple[int, int, int], cases: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    volume = torch.rand(cases, channels, *size, generator=torch.Generator().manual_seed(1))
    return volume, torch.ones(cases, size[0], dtype=torch.bool)


def test_every_entry_has_its_count_and_its_quick_network():
    assert set(ZOO) == set(COUNTS) == set(SMALL)


def test_parameter_counts_are_those_of_the_paper_and_its_sources():
    table = methods_table()
    counted = {row["name"]: (row["trainable_parameters"], row["total_parameters"]) for row in table}
    assert counted == COUNTS
    assert all(set(row) == set(table[0]) and row["licence"] and row["citation"] and row["weights"] for row in table)


@every
def test_answers_are_finite_and_every_trained_parameter_gets_a_gradient(name):
    entry, channels, size = small(name)
    network = entry.build(K, in_channels=channels).train()
    frozen = {key for key, parameter in network.named_parameters() if not parameter.requires_grad}
    logits = network(*batch(channels, size))
    assert logits.shape == (2, K)
    assert logits.isfinite().all()
    nn.functional.cross_entropy(logits, torch.tensor([0, 2])).backward()
    without = {key for key, parameter in network.named_parameters() if parameter.grad is None}
    assert without == frozen | UNUSED.get(name, set())


@every
def test_the_seed_alone_decides_and_the_global_generator_is_left_alone(name):
    entry, channels, _ = small(name)
    before = torch.get_rng_state()
    first, same, other = (entry.build(K, in_channels=channels, seed=seed).state_dict() for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[key], same[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


@every
def test_weights_written_and_read_again_give_the_same_answer_to_the_bit(name):
    entry, channels, size = small(name)
    network = entry.build(K, in_channels=channels, seed=1).eval()
    with torch.no_grad():
        for buffer in network.buffers():
            if buffer.is_floating_point():
                buffer.add_(0.1)
    again = entry.build(K, in_channels=channels, seed=2).eval()
    again.load_state_dict(copy.deepcopy(network.state_dict()))
    with torch.inference_mode():
        assert torch.equal(again(*batch(channels, size)), network(*batch(channels, size)))


@every
def test_a_case_does_not_depend_on_who_is_beside_it(name):
    entry, channels, size = small(name)
    network = entry.build(K, in_channels=channels).eval()
    volume, mask = batch(channels, size)
    with torch.inference_mode():
        together, alone = network(volume, mask), network(volume[1:], mask[1:])
    torch.testing.assert_close(together[1:], alone, rtol=1e-4, atol=1e-5)


@every
def test_padded_slices_change_nothing_or_are_refused(name):
    entry, channels, size = small(name)
    network = entry.build(K, in_channels=channels).eval()
    volume, mask = batch(channels, size)
    mask[1, -2:] = False
    if entry.kind == "volume":
        with pytest.raises(UsageError, match="padded slices"):
            network(volume, mask)
        return
    noisy = volume.clone()
    noisy[1, :, -2:] = 1e4
    with torch.inference_mode():
        padded, cut = network(noisy, mask), network(volume[1:, :, :-2], mask[1:, :-2])
    torch.testing.assert_close(padded[1:], cut, rtol=1e-4, atol=1e-5)


@every
def test_a_batch_of_another_shape_is_refused_in_one_line(name):
    entry, channels, size = small(name)
    network = entry.build(K, in_channels=channels).eval()
    volume, mask = batch(channels, size)
    for bad_volume, bad_mask in ((volume[:, :0], mask), (volume[0], mask), (volume, mask[:, 1:]), (volume, ~mask)):
        with pytest.raises(UsageError, match="expected") as caught:
            network(bad_volume, bad_mask)
        assert "\n" not in str(caught.value)


@every
def test_what_is_done_to_other_sizes_is_said(name):
    sizes = ZOO[name].sizes
    odd = (29, 61, 67)
    note = sizes.note(odd)
    assert sizes.note(sizes.target(odd)) is None
    assert (note is None) == (sizes.rule == "any")
    fitted = sizes.fit(torch.ones(1, 1, *odd)) if max(sizes.target(odd)) < 200 else None
    if fitted is not None:
        assert tuple(fitted.shape[2:]) == sizes.target(odd)
        assert fitted.sum() == 29 * 61 * 67 or sizes.rule.startswith("resize")
    if note is not None:
        assert "29 x 61 x 67" in note


@every
def test_a_number_of_channels_it_cannot_take_is_refused(name):
    with pytest.raises(UsageError, match=f"{name}: expected .* channels, got 7"):
        ZOO[name].empty(2, in_channels=7)
    for channels in ZOO[name].channels:
        assert count_parameters(ZOO[name].empty(5, in_channels=channels), trainable=True) > 0


def test_a_system_that_is_not_trained_as_a_method_says_how_it_is():
    with pytest.raises(UsageError, match=r"nnU-Net trains .*run anymc3d pandx MANIFEST"):
        zoo_entry("pandx")


def test_an_unknown_method_suggests_the_nearest():
    with pytest.raises(UsageError, match="did you mean 'resnet18-3d'"):
        zoo_entry("resnet-18-3d")
    assert zoo_entry("densenet121-3d").title == "3D DenseNet-121"
