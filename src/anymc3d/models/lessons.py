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
from anymc3d.models.zoo.objective import Answers, Lesson, Teaching, is_learned, joined


def teaches_itself(classifier: object) -> bool:
    """Whether a classifier is a network of the zoo that says itself what it is trained on."""
    if not isinstance(classifier, BaselineClassifier):
        return False
    return all(isinstance(network, Teaching) for network in classifier.networks.values())


def learn(classifier: BaselineClassifier, batch: Mapping[str, PackedSlices], encoding: Encoding) -> Lesson:
    """What the networks of all views learn from a batch; every case has answers whose weights add up to 1.

    A case of which no view has answers of its own is trained on the mean of its views, which is the answer. Of others
    each view has an equal share, with its own answers or with its logits. Where the recipe gives views a weight, their
    logits are trained by it besides. The loss of a case's masks is the mean over its views.

    Raises:
        PluginError: a case has no slice in any view.
        UsageError: batch norm met one value alone.
    """
    has_view = classifier.views_there(batch)
    parts, whole, by_case = [], [], defaultdict(list)
    for column, view in enumerate(classifier.views):
        present = has_view[:, column].nonzero().flatten().tolist()
        for positions, lesson in _of_view(classifier, view, batch[view], encoding, present) if present else ():
            parts.append(lesson.answers.moved(positions))
            rest = sorted(set(range(len(positions))) - set(lesson.answers.case.tolist()))
            whole.append((Answers.of_cases(lesson.logits).moved(positions), {positions[case] for case in rest}))
            for case, loss in lesson.mask_losses.items():
                by_case[positions[case]].append(loss)
    views = joined([answers for answers, _ in whole])
    mean = views.logits.new_zeros(len(has_view), views.logits.shape[1]).index_add(0, views.case, views.logits)
    mean = mean / has_view.sum(dim=1, keepdim=True).to(mean.device)
    taught = joined(parts)
    plain = sorted(set(range(len(has_view))) - set(taught.case.tolist()))
    shares = 1 / has_view.sum(dim=1)
    lacking = [answers.only([case for case in cases if case not in plain]) for answers, cases in whole]
    answers = joined([taught.weighted(shares), joined(lacking).weighted(shares), Answers.of_cases(mean).only(plain)])
    weight = classifier.entry.recipe.view_weight
    if weight is not None and len(classifier.views) > 1:
        answers = joined([answers, views.weighted(weight * shares)])
    losses = {case: torch.stack(case_losses).mean() for case, case_losses in by_case.items()}
    return Lesson(_graded(classifier, mean), replace(answers, logits=_graded(classifier, answers.logits)), losses)


def _of_view(
    classifier: BaselineClassifier, view: str, packed: PackedSlices, encoding: Encoding, present: list[int]
) -> list[tuple[list[int], Lesson]]:
    """(positions in the batch, lesson) of every call of the view's network, in float32."""
    branch = classifier.decoder[view] if view in classifier.decoder else None  # noqa: SIM401 - a ModuleDict has no get
    lessons = []
    for cases, volume, real in classifier.volumes(view, packed):
        positions = [present[case] for case in cases]
        targets = [packed.masks[position] if packed.masks else None for position in positions]
        masks = [target if branch is not None and is_learned(target, branch) else None for target in targets]
        with classifier.computing(view, volume, encoding.dtype):
            lesson = classifier.networks[view].lesson(volume, real, masks, branch)
        answers = replace(lesson.answers, logits=lesson.answers.logits.float())
        losses = {case: loss.float() for case, loss in lesson.mask_losses.items()}
        lessons.append((positions, Lesson(lesson.logits.float(), answers, losses)))
    return lessons


def _graded(classifier: BaselineClassifier, logits: Tensor) -> Tensor:
    """Of grades the logits that the cut points make of scores."""
    return logits if classifier.ordinal is None else classifier.ordinal(logits)
