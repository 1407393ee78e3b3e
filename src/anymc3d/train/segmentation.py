"""Learning from masks beside the labels: which structures, what one batch costs, how good the maps are.

The loss of a step is that of its labels plus lambda times the mean over its cases that have a mask. A case's loss is
the mean over its views that have one. Cases without a mask cost nothing.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from anymc3d.data.case_scans import PreparedCase
from anymc3d.data.dataset import CaseSet
from anymc3d.data.mask_slices import annotated_labels
from anymc3d.errors import ManifestError
from anymc3d.models.classifier import Encoding, PackedSlices, VolumeClassifier
from anymc3d.models.decoders.interface import MaskTarget, Schedule
from anymc3d.models.decoders.run import classify_and_decode
from anymc3d.models.decoders.table import OWN
from anymc3d.models.zoo.objective import is_learned
from anymc3d.models.zoo.table import zoo_entry
from anymc3d.settings.config import TaskSettings
from anymc3d.train.draws import Visit, generator
from anymc3d.train.losses import LossSum
from anymc3d.train.processes import Processes
from anymc3d.train.study import Study

Batch = Mapping[str, PackedSlices]


def with_structures(task: TaskSettings, study: Study, prepared: Mapping[int, PreparedCase]) -> TaskSettings:
    """The task with the structures it learns: those named, or all labels of the training masks.

    Raises:
        ManifestError: no training case has a mask, or none has one of the named structures.
    """
    train = [prepared[index].mask_labels for index in study.indices("train")]
    present = sorted({label for views in train for labels in views.values() for label in labels})
    wanted = task.segmentation.classes or tuple(present)
    if not any(train):
        problem = (
            f"segmentation: {task.segmentation.decoder} needs masks of training cases, none of {len(train)} has one; "
            "fill the manifest's column 'mask', or use segmentation: none"
        )
        raise ManifestError(str(study.manifest.path), [problem])
    absent = [label for label in wanted if label not in present and _was_looked_for(label, task, study)]
    problems = [
        f"segmentation.classes: no training mask holds label {label} on the slices of its view; they hold {present}"
        for label in absent
    ]
    if not wanted:
        problems = ["segmentation: every training mask is empty on the slices of its view; check the masks"]
    if task.segmentation.decoder == OWN and not zoo_entry(task.method.name).recipe.structures:
        known = [annotated_labels(study.manifest.cases[i]) for i in study.indices("train") if prepared[i].mask_labels]
        if not any(labels is None or labels.issuperset(wanted) for labels in known):
            problems.append(
                f"segmentation: own needs a training mask in which all of {list(wanted)} were looked for, to know "
                "where the region is; every mask_classes leaves some out: name fewer in segmentation.classes"
            )
    if problems:
        raise ManifestError(str(study.manifest.path), problems)
    return replace(task, segmentation=replace(task.segmentation, classes=wanted))


def _was_looked_for(label: int, task: TaskSettings, study: Study) -> bool:
    """Whether a training mask should have shown a label. A network that draws what its authors drew may leave out a
    structure that no case's ``mask_classes`` names; every other decoder would learn nothing of it."""
    if task.segmentation.decoder != OWN or not zoo_entry(task.method.name).recipe.structures:
        return True
    cases = [study.manifest.cases[index] for index in study.indices("train")]
    annotated = [annotated_labels(case) for case in cases if case.masks]
    return any(labels is None or label in labels for labels in annotated)


class MaskSource:
    """The masks of some cases with the structures numbered from 1 in the task's order."""

    def __init__(self, cases: CaseSet, classes: Sequence[int]) -> None:
        self.cases, self.classes = cases, tuple(classes)
        self._numbers = np.zeros(1 + max(classes), dtype=np.uint8 if len(classes) <= 255 else np.int16)
        self._numbers[list(classes)] = np.arange(1, 1 + len(classes))

    def load(self, index: int) -> dict[str, NDArray[Any]]:
        """View -> (S, H, W) of structure numbers, where the case has a mask of it."""
        masks = self.cases.masks(index)
        return {view: self._numbered(labels) for view, labels in masks.items() if labels is not None}

    def annotated(self, index: int) -> tuple[int, ...]:
        """The numbers of the structures that were looked for in a case."""
        labels = annotated_labels(self.cases.cases[index])
        return tuple(i for i, label in enumerate(self.classes, start=1) if labels is None or label in labels)

    def _numbered(self, labels: NDArray[Any]) -> NDArray[Any]:
        known = labels < len(self._numbers)
        return np.where(known, self._numbers[np.where(known, labels, 0)], 0).astype(self._numbers.dtype)


@dataclass(frozen=True)
class Segmentation:
    """The auxiliary part of a training run."""

    weight: float
    seed: int

    def factor(
        self,
        batches: Iterable[tuple[Sequence[Visit], Batch]],
        targets: NDArray[Any],
        decoders: Mapping[str, nn.Module],
        processes: Processes,
    ) -> float:
        """What a case's loss counts beside a label's when all sums of a step are divided by its number of labels."""
        labels, cases = 0, 0
        for visits, batch in batches:
            labels += int((~np.isnan(targets[[visit.case for visit in visits]])).sum())
            cases += len({case for positions in masked_positions(batch, decoders).values() for case in positions})
        labels_all, cases_all = processes.sum(labels, cases)
        return self.weight * labels_all / cases_all if cases_all else 0.0

    def learn(
        self,
        classifier: VolumeClassifier,
        backbone: nn.Module,
        batch: Batch,
        encoding: Encoding,
        visits: Sequence[Visit],
        *,
        epoch: int,
        progress: float,
    ) -> tuple[Tensor, LossSum]:
        """Logits (B, K), and the loss over the cases of a batch that have a mask."""
        wanted = masked_positions(batch, classifier.decoder)
        schedules = {
            (view, i): Schedule(progress, generator(self.seed, "segmentation", epoch, *visits[i].key, view))
            for view, positions in wanted.items()
            for i in positions
        }
        answer, maps = classify_and_decode(
            classifier, backbone, batch, encoding, wanted, lambda view, i: schedules[view, i]
        )
        by_case: dict[int, list[Tensor]] = defaultdict(list)
        for (view, i), output in maps.items():
            target = batch[view].masks[i]
            by_case[i].append(classifier.decoder[view].loss(output, target, schedules[view, i]))
        losses = [torch.stack(parts).mean() for parts in by_case.values()]
        total = torch.stack(losses).sum() if losses else answer.logits.new_zeros(())
        return answer.logits, LossSum(total, len(losses))


def masked_positions(batch: Batch, decoders: Mapping[str, nn.Module]) -> dict[str, list[int]]:
    """View -> positions of the cases that have slices and a mask that its decoder learns from."""
    return {
        view: [i for i, mask in enumerate(packed.masks) if packed.counts[i] and is_learned(mask, decoders[view])]
        for view, packed in batch.items()
    }


def dice_of(probabilities: Tensor, target: MaskTarget) -> dict[int, float]:
    """Structure -> Dice of the most likely labels, of the annotated ones that are in the truth or in the answer."""
    answer = probabilities.argmax(dim=0)
    dice = {}
    for structure in target.annotated:
        ours, truth = answer == structure, target.labels == structure
        total = int(ours.sum()) + int(truth.sum())
        if total:
            dice[structure] = 2 * int((ours & truth).sum()) / total
    return dice


def mean_dice(per_case: Iterable[Mapping[int, float]]) -> float | None:
    """The mean over structures of the mean over cases; None where there is nothing to measure."""
    by_structure: dict[int, list[float]] = defaultdict(list)
    for by_label in per_case:
        for structure, dice in by_label.items():
            by_structure[structure].append(dice)
    means = [math.fsum(values) / len(values) for values in by_structure.values()]
    return math.fsum(means) / len(means) if means else None
