"""The parts that the loop is handed: classifier, optimiser, loss, data, and how slices go through the backbone."""

from __future__ import annotations

from anymc3d.cost.device import DTYPES
from anymc3d.cost.energy import ELSEWHERE, EnergyMeter, meter_of
from anymc3d.models.baseline import BaselineClassifier
from anymc3d.models.build import Classifier, build_classifier
from anymc3d.models.classifier import Encoding
from anymc3d.settings.config import TaskSettings
from anymc3d.train.loop_parts import Parts
from anymc3d.train.losses import make_loss
from anymc3d.train.optimisation import build_optimizer
from anymc3d.train.run import Run
from anymc3d.train.scans import Scans
from anymc3d.train.segmentation import Segmentation
from anymc3d.train.start import Start
from anymc3d.train.trunk_tokens import trunk_pass


def make_parts(task: TaskSettings, scans: Scans, start: Start, run: Run, number_format: str) -> Parts:
    """Build what the loop works with; the classifier has the values it starts from, equal in all processes.

    ``number_format``: of the backbone's arithmetic, an entry of ``DTYPES``.
    """
    classifier, backbone, masks = _classifier(task, start, run), start.backbone, task.segmentation
    study, processes = scans.study, run.processes
    encoding = _encoding(task, start, number_format)
    trunk = trunk_pass(task, classifier, backbone, encoding)
    return Parts(
        backbone=None if backbone is None else backbone.module,
        classifier=classifier,
        optimizer=build_optimizer(classifier, task.train, masks.lr),
        encoding=encoding,
        train=scans.labelled("train", task, run.device, trunk, training=True),
        val=scans.labelled("val", task, run.device, trunk, training=False),
        labels=task.labels,
        loss=make_loss(task.train, task.labels, study.targets[study.indices("train")]),
        settings=task.train,
        processes=processes,
        checkpoints=run.folder.checkpoints,
        run_hash=run.folder.run_hash(),
        meter=meter_of(run.device) if processes.world_size == 1 else EnergyMeter((), ELSEWHERE),
        segmentation=Segmentation(masks.weight, task.train.seed) if masks.is_on else None,
        quiet=run.quiet,
        on_step=run.callbacks.step if processes.is_first and run.callbacks.want_steps else None,
    )


def _encoding(task: TaskSettings, start: Start, number_format: str) -> Encoding:
    backbone = start.backbone
    normalisation = {} if backbone is None else {"mean": backbone.card.mean, "std": backbone.card.std}
    return Encoding(
        **normalisation,
        chunk_size=task.train.chunk_size,
        dtype=DTYPES[number_format],
        recompute=task.train.recompute,
    )


def _classifier(task: TaskSettings, start: Start, run: Run) -> Classifier:
    backbone = None if start.backbone is None else start.backbone.module.to(run.device)
    classifier = build_classifier(
        task.method,
        views=task.views,
        labels=task.labels,
        fusion=task.fusion,
        backbone=backbone,
        segmentation=task.segmentation,
        features=task.features,
        seed=task.train.seed,
    )
    if isinstance(classifier, BaselineClassifier):
        start.fill(classifier)
    classifier = classifier.to(run.device)
    run.processes.broadcast(tensor.data for tensor in classifier.tensors().values())
    return classifier
