"""One batch for a network of the zoo that has an objective of its own: over its views, sizes and cases.

The twin of ``BaselineClassifier.forward`` in training; what is learned from a volume is the network's own
(``anymc3d.models.zoo.objective``).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from anymc3d.models.baseline import BaselineClassifier
from anymc3d.models.classifier import Encoding, PackedSlices
from anymc3d.models.zoo.objective import Answers, Lesson, Teaching, joined


def teaches_itself(classifier: object) -> bool:
    """Whether a classifier is a network of the zoo that says itself what it is trained on."""
    if not isinstance(classifier, BaselineClassifier):
        return False
    return all(isinstance(network, Teaching) for network in classifier.networks.values())


def learn(classifier: BaselineClassifier, batch: Mapping[str, PackedSlices], encoding: Encoding) -> Lesson:
    """What the networks of all views learn from a batch.

    The answers of a case's views share its weight; where the recipe gives views a weight of their own, the mean of
    their answers is trained and each of them beside it. The loss of a case's masks is the mean over its views.

    Raises:
        PluginError: a case has no slice in any view.
        UsageError: batch norm met one value alone.
    """
    there = classifier.views_there(batch)
    shares = 1 / there.sum(dim=1)
    parts, by_case, total = [], defaultdict(list), None
    for column, view in enumerate(classifier.views):
        present = there[:, column].nonzero().flatten().tolist()
        if not present:
            continue
        for positions, lesson in _of_view(classifier, view, batch[view], encoding, present):
            parts.append(lesson.answers.moved(positions, shares[positions].tolist()))
            for case, loss in lesson.mask_losses.items():
                by_case[positions[case]].append(loss)
            index = torch.tensor(positions, device=lesson.logits.device)
            total = lesson.logits.new_zeros(len(there), lesson.logits.shape[1]) if total is None else total
            total = total.index_add(0, index, lesson.logits)
    mean = total * shares.to(total.device).unsqueeze(1)
    losses = {case: torch.stack(found).mean() for case, found in by_case.items()}
    return Lesson(_graded(classifier, mean), _trained(classifier, mean, joined(parts)), losses)


def _of_view(
    classifier: BaselineClassifier, view: str, packed: PackedSlices, encoding: Encoding, present: list[int]
) -> list[tuple[list[int], Lesson]]:
    """(positions in the batch, lesson) of every call of the view's network, in float32."""
    branch = classifier.decoder[view] if view in classifier.decoder else None  # noqa: SIM401 - a ModuleDict has no get
    found = []
    for cases, volume, real in classifier.volumes(view, packed):
        positions = [present[case] for case in cases]
        targets = [packed.masks[position] if packed.masks else None for position in positions]
        masks = [target if target is not None and target.annotated else None for target in targets]
        with classifier.computing(view, volume, encoding.dtype):
            lesson = classifier.networks[view].lesson(volume, real, masks, branch)
        answers = replace(lesson.answers, logits=lesson.answers.logits.float())
        losses = {case: loss.float() for case, loss in lesson.mask_losses.items()}
        found.append((positions, Lesson(lesson.logits.float(), answers, losses)))
    return found


def _trained(classifier: BaselineClassifier, mean: Tensor, answers: Answers) -> Answers:
    """What is compared with the labels: the answers of the views, or their mean and each view beside it."""
    weight = classifier.entry.recipe.view_weight
    if weight is not None:
        beside = replace(answers, weight=weight * answers.weight)
        answers = Answers.of_cases(mean) if len(classifier.views) == 1 else joined([Answers.of_cases(mean), beside])
    return replace(answers, logits=_graded(classifier, answers.logits))


def _graded(classifier: BaselineClassifier, logits: Tensor) -> Tensor:
    """Of grades the logits that the cut points make of scores."""
    return logits if classifier.ordinal is None else classifier.ordinal(logits)
