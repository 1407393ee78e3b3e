"""What networks with an objective of their own are trained on: rows of answers, the visible part, the true slice."""

import math

import numpy as np
import pytest
import torch
from zoo_cases import tiny_efficientnet
from zoo_cases_rsna import quick_convnext, tiny_convnext

from anymc3d.models.decoders.interface import MaskTarget
from anymc3d.models.zoo import rsna2022 as winner
from anymc3d.models.zoo.coat import CoaTLite
from anymc3d.models.zoo.mask_branch import FeaturePyramidBranch, UNetBranch, multilabel_dice_loss
from anymc3d.models.zoo.objective import Answers, Branch, joined, largest_slice, visible_share
from anymc3d.models.zoo.rsna2022 import CHANNELS, rsna2022, rsna2022_patient, shuffled
from anymc3d.models.zoo.rsna2023 import rsna2023_efficientnet
from anymc3d.models.zoo.rsna2024 import Pointer
from anymc3d.models.zoo.table import ZOO


def drawn(*areas):
    """A mask whose slices hold so many voxels of structure 1."""
    labels = torch.zeros(len(areas), 4, 5, dtype=torch.uint8)
    for index, area in enumerate(areas):
        labels[index].view(-1)[:area] = 1
    return labels


def batch(*counts, size=(20, 24)):
    """Volumes (B, 1, S, H, W) with so many real slices, and their mask."""
    generator = torch.Generator().manual_seed(4)
    volume = torch.rand(len(counts), 1, max(counts), *size, generator=generator)
    return volume, torch.arange(max(counts)) < torch.tensor(counts).unsqueeze(1)


def test_parts_of_a_case_weigh_the_same_and_one_together():
    logits, real = torch.arange(12.0).view(2, 3, 2), torch.tensor([[True, True, True], [True, False, False]])
    answers = Answers.of_parts(logits, real)
    assert answers.case.tolist() == [0, 0, 0, 1]
    assert answers.weight.tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 3, 1])
    assert answers.visible.tolist() == [1, 1, 1, 1]
    assert torch.equal(answers.logits, logits[real])
    some = joined([answers.only([1]), Answers.of_cases(logits[:, 0], 0.5).only([0])])
    assert (some.case.tolist(), some.weight.tolist()) == ([1, 0], [1, 0.5])
    halved = answers.weighted(torch.tensor([0.5, 1.0]))
    assert halved.weight.tolist() == pytest.approx([1 / 6, 1 / 6, 1 / 6, 1])
    assert halved.moved([5, 2]).case.tolist() == [5, 5, 5, 2]
    assert Answers.none(logits[:, 0]).logits.shape == (0, 2)


def test_the_visible_part_is_the_area_of_all_structures_beside_the_largest_one():
    labels = drawn(2, 8, 0, 4)
    assert visible_share(MaskTarget(labels, (1,))).tolist() == [0.25, 1, 0, 0.5]
    labels[2, 3] = 2
    assert visible_share(MaskTarget(labels, (1, 2))).tolist() == [0.25, 1, 0.625, 0.5]
    assert largest_slice(MaskTarget(labels, (1, 2))) == 1
    assert largest_slice(MaskTarget(drawn(3, 7, 7), (1,))) == 1, "the first of equal ones"


def test_the_region_is_known_where_all_structures_were_looked_for_and_one_is_there():
    branch = Branch(2)
    assert branch.knows_region(MaskTarget(drawn(0, 3), (1, 2)))
    assert not branch.knows_region(MaskTarget(drawn(0, 3), (1,))), "the other one may be anywhere"
    assert not branch.knows_region(MaskTarget(drawn(0, 0), (1, 2)))
    assert branch.learns_from(MaskTarget(drawn(0, 0), (1,))) and not branch.learns_from(MaskTarget(drawn(3), ()))
    drawing = UNetBranch([8, 8], 2)
    assert drawing.learns_from(MaskTarget(drawn(0, 3), (1,)))
    assert not drawing.learns_from(MaskTarget(drawn(0, 3), (2,))), "nothing of it is there"
    pointer = Pointer(4, 2)
    assert [pointer.learns_from(MaskTarget(drawn(0, 3), seen)) for seen in ((1, 2), (1,))] == [True, False]


def test_2022_trains_every_slice_on_the_label_of_its_volume():
    network = rsna2022(2, encoder=tiny_efficientnet(CHANNELS), hidden=8).eval()
    volume, real = batch(6, 4)
    lesson = network.lesson(volume, real, [None, None], None)
    of_slices, _ = network.group_logits(volume, real)
    assert torch.equal(lesson.answers.logits, of_slices[real])
    assert lesson.answers.case.tolist() == [0] * 6 + [1] * 4
    assert lesson.answers.weight.tolist() == pytest.approx([1 / 6] * 6 + [1 / 4] * 4)
    assert torch.equal(lesson.logits, network(volume, real)) and not lesson.mask_losses


def test_2022_of_the_patient_trains_the_slices_and_the_answer_one_to_one():
    network = rsna2022_patient(2, encoder=tiny_convnext(CHANNELS), hidden=8).eval()
    volume, real = batch(5, 3, size=(40, 64))
    lesson = network.lesson(volume, real, [None, None], None)
    torch.testing.assert_close(lesson.answers.logits[-2:], network(volume, real))
    weights = torch.zeros(2).index_add(0, lesson.answers.case, lesson.answers.weight)
    assert weights.tolist() == pytest.approx([1, 1]) and lesson.answers.weight[-2:].tolist() == [0.5, 0.5]
    assert lesson.answers.case.tolist() == [0] * 5 + [1] * 3 + [0, 1]
    assert not torch.allclose(lesson.answers.logits[:5].mean(dim=0), lesson.answers.logits[-2])


def test_2022_reads_slices_in_another_order_one_time_in_five_and_regions_stay_whole(monkeypatch):
    places = [[number] for number in range(105)]
    torch.manual_seed(0)
    orders = [shuffled(places) for _ in range(2000)]
    moved = [order for order in orders if order != places]
    assert 0.17 < len(moved) / 2000 < 0.23
    assert all(sorted(order) == places for order in moved)
    monkeypatch.setattr(winner, "SHUFFLE", 1.0)
    numbers = [image for (image,) in shuffled(places, region=15)]
    firsts = numbers[::15]
    assert numbers != sorted(numbers) and sorted(firsts) == list(range(0, 105, 15))
    assert numbers == [first + step for first in firsts for step in range(15)]


def test_2022_keeps_the_order_when_it_answers():
    network = rsna2022(2, encoder=tiny_efficientnet(CHANNELS), hidden=8)
    assert network.eval().arrange(30) == winner.with_neighbours(30, 1)


def test_2023_trains_triplets_as_far_as_they_show_the_region_and_other_cases_on_their_answer():
    network = rsna2023_efficientnet(2, 1, encoder=tiny_efficientnet()).eval()
    branch = ZOO["rsna2023-efficientnet"].build_branch(network, 1)
    volume, real = batch(7, 4, 6)
    seen = torch.zeros(7, 20, 24, dtype=torch.uint8)
    seen[1, :2], seen[4, :8], seen[6, :4] = 1, 1, 1  # middles of the triplets: slices 1, 4 and, repeated, 6
    empty = MaskTarget(torch.zeros(6, 20, 24, dtype=torch.uint8), (1,))
    masks = [MaskTarget(seen, (1,)), None, empty]
    lesson = network.lesson(volume, real, masks, branch)
    of_groups, groups = network.group_logits(volume, real)
    assert lesson.answers.case.tolist() == [0, 0, 0], "the others are trained on their answer"
    assert lesson.answers.visible.tolist() == [0.25, 1, 0.5]
    torch.testing.assert_close(lesson.answers.logits, of_groups[0][groups[0]])
    torch.testing.assert_close(lesson.logits, network(volume, real))
    assert not branch.learns_from(empty)


def test_2023_does_not_call_a_part_empty_that_may_hold_what_nobody_looked_for():
    network = rsna2023_efficientnet(2, 1, encoder=tiny_efficientnet()).eval()
    branch = ZOO["rsna2023-efficientnet"].build_branch(network, 2)
    seen = torch.zeros(6, 20, 24, dtype=torch.uint8)
    seen[1, :2] = 1
    lesson = network.lesson(*batch(6), [MaskTarget(seen, (1,))], branch)
    assert len(lesson.answers.logits) == 0, "structure 2 may be on any triplet"
    assert set(lesson.mask_losses) == {0}, "what was looked for is drawn all the same"


def test_2023_without_a_branch_is_trained_on_its_answer_alone():
    network = rsna2023_efficientnet(2, 1, encoder=tiny_efficientnet()).eval()
    volume, real = batch(7, 4)
    lesson = network.lesson(volume, real, [None, None], None)
    assert torch.equal(lesson.logits, network(volume, real))
    assert len(lesson.answers.logits) == 0 and not lesson.mask_losses


def test_2023_compares_drawings_on_the_middle_slices_of_each_case_alone():
    """The loss of a case's mask does not depend on the cases beside it."""
    network = rsna2023_efficientnet(2, 1, encoder=tiny_efficientnet()).eval()
    branch = ZOO["rsna2023-efficientnet"].build_branch(network, 2).eval()
    volume, real = batch(7, 4)
    labels = torch.randint(0, 3, (4, 20, 24), generator=torch.Generator().manual_seed(3))
    mask = MaskTarget(labels, (1, 2))
    both = network.lesson(volume, real, [None, mask], branch).mask_losses[1]
    alone = network.lesson(volume[1:, :, :4], real[1:, :4], [mask], branch).mask_losses[0]
    torch.testing.assert_close(both, alone)
    other = labels.clone()
    other[[0, 2]] = 0  # slices 1 and 3 are the middles
    assert torch.equal(network.lesson(volume, real, [None, MaskTarget(other, (1, 2))], branch).mask_losses[1], both)


def test_2024_points_at_the_slice_with_most_of_the_region():
    network = quick_convnext(2, 1, torch.Generator().manual_seed(0)).eval()
    branch = ZOO["rsna2024-convnext"].build_branch(network, 3)
    volume, real = batch(5, 3, size=(40, 64))
    masks = [None, MaskTarget(drawn(1, 5, 2), (1,))]
    lesson = network.lesson(volume, real, masks, branch)
    states, _ = network._states(volume, real)
    scores = (states[1, :3].tanh() @ branch.score.weight[0]).detach().double().numpy()
    expected = -math.log(np.exp(scores)[1] / np.exp(scores).sum())
    assert lesson.mask_losses.keys() == {1}
    assert lesson.mask_losses[1].item() == pytest.approx(expected, abs=1e-6)
    assert len(lesson.answers.logits) == 0
    assert torch.equal(lesson.logits, network(volume, real))


def test_the_scores_of_2024_that_point_are_not_those_that_pool():
    network = quick_convnext(2, 1, torch.Generator().manual_seed(0))
    branch = ZOO["rsna2024-convnext"].build_branch(network, 1)
    assert branch.score.weight is not network.fusion.score.weight
    volume, real = batch(5, size=(40, 64))
    network.lesson(volume, real, [MaskTarget(drawn(0, 3, 0, 0, 0), (1,))], branch).mask_losses[0].backward()
    assert network.fusion.score.weight.grad is None
    assert branch.score.weight.grad.abs().sum() > 0 and network.fusion.lstm.weight_hh_l0.grad.abs().sum() > 0


def test_multilabel_dice_is_its_formula_over_all_slices_together():
    generator = torch.Generator().manual_seed(5)
    logits = torch.randn(3, 4, 6, 7, generator=generator)
    labels = torch.randint(0, 3, (3, 6, 7), generator=generator)  # structures 3 and 4 are on no slice
    loss = multilabel_dice_loss(logits, MaskTarget(labels, (1, 2, 4)))
    expected = []
    for structure in (1, 2):
        p, y = 1 / (1 + np.exp(-logits[:, structure - 1].double().numpy())), labels.numpy() == structure
        expected.append(1 - 2 * p[y].sum() / (p.sum() + y.sum()))
    assert loss.item() == pytest.approx(sum(expected) / 3, abs=1e-6), "the absent one costs 0 and counts"


def test_a_drawing_that_is_the_mask_costs_nothing():
    labels = torch.randint(0, 3, (2, 6, 7), generator=torch.Generator().manual_seed(5))
    logits = torch.stack([(labels == structure) * 60.0 - 30 for structure in (1, 2)], dim=1)
    assert multilabel_dice_loss(logits, MaskTarget(labels, (1, 2))).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("size", [(64, 96), (45, 70)])
def test_branches_draw_on_the_pixels_of_the_slices(size):
    encoder = tiny_efficientnet()
    maps = UNetBranch(encoder.widths, 3)(encoder.pyramid(torch.rand(2, 3, *size)), size)
    assert maps.shape == (2, 3, *size)
    encoder = CoaTLite(widths=(8, 8, 16, 16), depths=(1, 1, 1, 1))
    pyramid = encoder.pyramid(torch.rand(2, 3, 64, 96))
    maps = FeaturePyramidBranch(encoder.widths, 3)(pyramid, size)
    assert maps.shape == (2, 3, *size)


@pytest.mark.parametrize("name", ["rsna2023-efficientnet", "rsna2023-coat"])
def test_the_pyramid_of_an_encoder_ends_with_what_it_pools(name):
    small = {
        "rsna2023-efficientnet": tiny_efficientnet,
        "rsna2023-coat": lambda: CoaTLite(widths=(8, 8, 16, 16), depths=(1, 1, 1, 1)),
    }
    encoder, images = small[name]().eval(), torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        pyramid = encoder.pyramid(images)
        assert torch.equal(encoder.pool(pyramid[-1]), encoder(images))
    assert [maps.shape[1] for maps in pyramid] == encoder.widths
    finest = {"rsna2023-efficientnet": 2, "rsna2023-coat": 4}[name]
    assert [maps.shape[-2:] for maps in pyramid] == [
        (64 // r, 96 // r) for r in (finest * 2**i for i in range(len(pyramid)))
    ]


def test_the_whole_efficientnet_has_the_five_resolutions_that_a_u_net_joins():
    encoder = ZOO["rsna2023-efficientnet"].empty(2).encoder
    assert encoder.widths == [24, 48, 64, 160, 256]
    branch = UNetBranch(encoder.widths, 3)
    ins = [256 + 160, 256 + 64, 128 + 48, 64 + 24, 32]
    assert [step[0].in_channels for step in branch.steps] == ins
    assert [step[0].out_channels for step in branch.steps] == [256, 128, 64, 32, 16]
    counted = (
        sum(9 * (a * b + b * b) + 4 * b for a, b in zip(ins, (256, 128, 64, 32, 16), strict=True)) + 16 * 3 * 9 + 3
    )
    assert sum(p.numel() for p in branch.parameters()) == counted
