"""The loss of EoMT: segments matched to the truth one to one, then their classes and masks (docs/segmentation.md).

Source: tue-mps/eomt ``training/mask_classification_loss.py``, after Mask2Former: Hungarian matching by class, binary
cross-entropy and Dice at random points; cross-entropy of the classes (weight 2; "none" counts 0.1), binary
cross-entropy (5) and Dice (5) of the matched masks at points of which three quarters are those least certain.

Ours: the three are divided by their weights' sum, small masks are asked at fewer points, truth is looked up at the
nearest pixel, and in a case where only some structures were annotated, the background is no segment and an unmatched
query learns nothing: what it found may be what was not annotated.
"""

from __future__ import annotations

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, grid_sample, softplus

from anymc3d.models.decoders.interface import MaskTarget

CLASS_WEIGHT, MASK_WEIGHT, DICE_WEIGHT = 2.0, 5.0, 5.0
NO_OBJECT = 0.1
NUM_POINTS = 12544
POINTS_A_CELL = 4
"""Ours: on small slices 12,544 points would ask every cell of a mask some sixty times over."""
OVERSAMPLE, IMPORTANCE = 3.0, 0.75


def matching_loss(classes: Tensor, masks: Tensor, target: MaskTarget, draws: torch.Generator) -> Tensor:
    """The loss of one output.

    Args:
        classes: (I, Q, 1 + C + 1) logits of background, structures and none.
        masks: (I, Q, s, h, w) logits; the I items of s slices are those of ``target.labels``, (I * s, H, W), in order.
        draws: of the points.
    """
    num_items, _, per_item, _, _ = masks.shape
    labels = target.labels.unflatten(0, (num_items, per_item)).long()
    is_whole = len(target.annotated) == classes.shape[-1] - 2
    segments = (0, *target.annotated) if is_whole else target.annotated
    kept_classes = classes.index_select(-1, classes.new_tensor((*segments, classes.shape[-1] - 1)).long())
    wanted = labels.new_tensor(segments)
    with torch.no_grad():
        present = torch.stack([(labels == segment).flatten(1).any(dim=1) for segment in segments], dim=1)
        pairs = match(_cost(kept_classes, masks, labels, wanted, draws), present)
    item, query, segment = (
        (classes.new_tensor(part).long() for part in zip(*pairs, strict=True))
        if pairs
        else (classes.new_zeros(0).long(),) * 3
    )
    none = NO_OBJECT if is_whole else 0.0
    loss = CLASS_WEIGHT * _class_loss(kept_classes, item, query, segment, none)
    if pairs:
        entropy, dice = _mask_losses(masks[item, query], labels, item, wanted[segment], draws)
        loss = loss + MASK_WEIGHT * entropy + DICE_WEIGHT * dice
    return loss / (CLASS_WEIGHT + MASK_WEIGHT + DICE_WEIGHT)


def match(cost: Tensor, present: Tensor) -> list[tuple[int, int, int]]:
    """(item, query, segment) of the cheapest one-to-one matching of each item.

    Args:
        cost: (I, Q, K).
        present: (I, K), which segments an item has.
    """
    pairs = []
    for item, (of_item, is_present) in enumerate(zip(cost.cpu().numpy(), present.cpu().numpy(), strict=True)):
        columns = is_present.nonzero()[0]
        queries, chosen = linear_sum_assignment(of_item[:, columns])
        pairs += [(item, int(query), int(columns[column])) for query, column in zip(queries, chosen, strict=True)]
    return pairs


def _cost(kept_classes: Tensor, masks: Tensor, labels: Tensor, wanted: Tensor, draws: torch.Generator) -> Tensor:
    """(I, Q, K): what it costs to call a query a segment."""
    num_items, per_item = masks.shape[0], masks.shape[2]
    points = _uniform((num_items, per_item, _num_points(masks)), draws, masks.device)
    logits = _at(masks.transpose(1, 2).flatten(0, 1), points.flatten(0, 1))
    logits = logits.unflatten(0, (num_items, per_item)).transpose(1, 2).flatten(2)
    everyone = torch.arange(num_items, device=labels.device)
    truth = (_labels_at(labels, everyone, points).flatten(1).unsqueeze(-1) == wanted).to(logits.dtype)
    entropy = (softplus(logits).sum(dim=-1, keepdim=True) - logits @ truth) / logits.shape[-1]
    likely = logits.sigmoid()
    total = likely.sum(dim=-1, keepdim=True) + truth.sum(dim=1).unsqueeze(1)
    dice = 1 - (2 * (likely @ truth) + 1) / (total + 1)
    return -CLASS_WEIGHT * kept_classes.softmax(dim=-1)[..., :-1] + MASK_WEIGHT * entropy + DICE_WEIGHT * dice


def _class_loss(kept_classes: Tensor, item: Tensor, query: Tensor, segment: Tensor, none: float) -> Tensor:
    """The weighted mean over all queries; an unmatched one should be none, and weighs ``none``."""
    last = kept_classes.shape[-1] - 1
    truth = torch.full(kept_classes.shape[:2], last, device=kept_classes.device)
    truth[item, query] = segment
    weights = torch.ones(last + 1, device=kept_classes.device)
    weights[last] = none
    loss = cross_entropy(kept_classes.flatten(0, 1), truth.flatten(), weight=weights, reduction="sum")
    return loss / weights[truth].sum().clamp_min(1e-6)


def _mask_losses(
    masks: Tensor, labels: Tensor, item: Tensor, wanted: Tensor, draws: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Binary cross-entropy and Dice of the matched masks (M, s, h, w), each the mean over them."""
    num = masks.shape[0]
    with torch.no_grad():
        points = _uncertain(masks, _num_points(masks), draws)
    logits = _at(masks.flatten(0, 1).unsqueeze(1), points.flatten(0, 1)).reshape(num, -1)
    truth = (_labels_at(labels, item, points).flatten(1) == wanted[:, None]).to(logits.dtype)
    likely = logits.sigmoid()
    dice = 1 - (2 * (likely * truth).sum(dim=1) + 1) / (likely.sum(dim=1) + truth.sum(dim=1) + 1)
    return binary_cross_entropy_with_logits(logits, truth), dice.mean()


def _uncertain(masks: Tensor, count: int, draws: torch.Generator) -> Tensor:
    """(M, s, count, 2): mostly the points at which the masks (M, s, h, w) are nearest to undecided."""
    num, per_item = masks.shape[:2]
    many = _uniform((num, per_item, int(OVERSAMPLE * count)), draws, masks.device)
    doubt = -_at(masks.flatten(0, 1).unsqueeze(1), many.flatten(0, 1)).abs().unflatten(0, (num, per_item))[:, :, 0]
    chosen = doubt.topk(int(IMPORTANCE * count), dim=-1).indices
    picked = many.gather(2, chosen.unsqueeze(-1).expand(-1, -1, -1, 2))
    return torch.cat([picked, _uniform((num, per_item, count - chosen.shape[-1]), draws, masks.device)], dim=2)


def _num_points(masks: Tensor) -> int:
    """Points a slice: of an item at most ``NUM_POINTS``, for each cell of its mask at most ``POINTS_A_CELL``."""
    per_item, rows, columns = masks.shape[-3:]
    return max(1, min(NUM_POINTS // per_item, POINTS_A_CELL * rows * columns))


def _uniform(shape: tuple[int, int, int], draws: torch.Generator, device: torch.device) -> Tensor:
    """(*shape, 2): places (x, y) from 0 to 1 across a slice."""
    return torch.rand(*shape, 2, generator=draws).to(device)


def _at(maps: Tensor, points: Tensor) -> Tensor:
    """Maps (N, Q, h, w) at points (N, P, 2), bilinear: (N, Q, P)."""
    return grid_sample(maps, points.unsqueeze(2) * 2 - 1, padding_mode="border", align_corners=False)[..., 0]


def _labels_at(labels: Tensor, item: Tensor, points: Tensor) -> Tensor:
    """Labels (I, s, H, W) of the items ``item`` (M,) at the pixels of points (M, s, P, 2): (M, s, P)."""
    size = points.new_tensor((labels.shape[-1], labels.shape[-2]))
    column, row = (points * size).long().minimum(size.long() - 1).unbind(dim=-1)
    slices = torch.arange(labels.shape[1], device=labels.device)
    return labels[item[:, None, None], slices[None, :, None], row, column]
