"""The scans of a run: read by all processes, each its share, and handed to the loop by split."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch

from anymc3d.cost.progress import Progress
from anymc3d.data.cache import Cache
from anymc3d.data.case_scans import PreparedCase, Segmenters
from anymc3d.data.dataset import CaseSet, prepare_all
from anymc3d.errors import ManifestError
from anymc3d.files import home
from anymc3d.plan.size_leak import region_leaks
from anymc3d.settings.config import TaskSettings
from anymc3d.train import log
from anymc3d.train.batch import BatchLoader
from anymc3d.train.identity import check_inputs, content_of
from anymc3d.train.loop_parts import LabelledSet
from anymc3d.train.run import Run
from anymc3d.train.segmentation import MaskSource
from anymc3d.train.study import Study, leave_out
from anymc3d.train.trunk_tokens import TrunkPass

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Scans:
    """The cases of a study with what is known of their scans, and where the prepared slices are."""

    study: Study
    prepared: Mapping[int, PreparedCase]
    cache: Cache
    segmenters: Segmenters

    def of_split(self, split: str) -> list[PreparedCase]:
        """What is known of the scans of one split."""
        return [self.prepared[index] for index in self.study.indices(split)]

    def labelled(
        self, split: str, task: TaskSettings, device: torch.device, trunk: TrunkPass | None, *, training: bool
    ) -> LabelledSet:
        """The cases of one split as the loop takes them; augmented and with views left out where they are trained."""
        chosen = self.study.indices(split)
        cases = [self.study.manifest.cases[i] for i in chosen]
        source = CaseSet(cases, self.of_split(split), task.views, self.cache, self.segmenters)
        loader = BatchLoader(
            source,
            task.views,
            device=device,
            augmentation=task.augmentation if training else "none",
            view_dropout=task.train.view_dropout if training else 0.0,
            masks=MaskSource(source, task.segmentation.classes) if task.segmentation.is_on else None,
            trunk=trunk if training or trunk is None else trunk.plain(),
            seed=task.train.seed,
        )
        ids, patients = [case.id for case in cases], [case.patient for case in cases]
        return LabelledSet(ids, loader, self.study.targets[chosen], patients)


def read_scans(task: TaskSettings, study: Study, segmenters: Segmenters, run: Run) -> Scans:
    """Read what is trained on and validated on, into the cache; without the cases that the views' regions leave out.

    Raises:
        ManifestError: some cannot be read; every one is listed, whichever process met it.
        RunFolderError: scans or masks are not what they were when the run began.
    """
    cache = Cache(home.cache_folder())
    prepared = _read_shares(task, study, cache, segmenters, run)
    run.processes.on_first(partial(check_inputs, run.folder, {"scans or masks": content_of(study, prepared)}))
    study = leave_out(study, [i for i, case in prepared.items() if case.excluded], task.labels)
    if run.processes.is_first and any(view.roi is not None for view in task.views.values()):
        log.write_regions(run.folder, study, prepared)
        trained = study.indices("train")
        views_of_cases = [prepared[index].views for index in trained]
        for line in region_leaks(task.views, views_of_cases, study.targets[trained], task.labels):
            logger.warning("%s", line)
    if run.processes.is_first:
        used = (len(study.indices(split)) for split in ("train", "val"))
        logger.info("training on %d cases, validating on %d", *used)
    return Scans(study, prepared, cache, segmenters)


def _read_shares(
    task: TaskSettings, study: Study, cache: Cache, segmenters: Segmenters, run: Run
) -> dict[int, PreparedCase]:
    """Read the wanted cases, each process its share, and return those of all by position.

    Raises:
        ManifestError: some cannot be read.
    """
    wanted = study.indices("train") + study.indices("val")
    own_share = wanted[run.processes.rank :: run.processes.world_size]
    cases, prepared, problems = [study.manifest.cases[i] for i in own_share], [], ()
    try:
        with Progress(total=len(cases), what="reading scans", unit="scan", quiet=run.hides_bars) as bar:
            prepared = prepare_all(
                cases, task.views, cache, progress=bar.update, segmenters=segmenters, with_masks=task.segmentation.is_on
            )
    except ManifestError as error:
        problems = error.problems
    shares = run.processes.gather((dict(zip(own_share, prepared, strict=False)), problems))
    problems = [problem for _, share in shares for problem in share]
    if problems:
        raise ManifestError("scans that cannot be used", problems)
    return {index: case for share, _ in shares for index, case in share.items()}
