"""``fit``: a task and a run folder in, a plugin out. The training twin of ``anymc3d.predict.predictor``.

The order of work is the order of the functions: cases, scans, parts, epochs, result.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from tqdm import tqdm

from anymc3d.cost.device import choose_device, choose_dtype
from anymc3d.cost.energy import ELSEWHERE, EnergyMeter, meter_of
from anymc3d.cost.memory import forget_peak
from anymc3d.data.cache import Cache
from anymc3d.data.dataset import CaseSet, PreparedCase, Segmenters, prepare_all
from anymc3d.data.manifest import write_manifest
from anymc3d.data.preprocess import CODE_VERSION
from anymc3d.data.pseudonyms import Pseudonyms
from anymc3d.errors import ManifestError, RunFolderError
from anymc3d.files import atomic, home
from anymc3d.files.folders import claim, locked
from anymc3d.models.baseline import BaselineClassifier
from anymc3d.models.build import Classifier, build_classifier
from anymc3d.models.classifier import Encoding
from anymc3d.models.decoders.table import check_backbone
from anymc3d.models.seam import check_blocks
from anymc3d.segmenters.build import build_segmenters
from anymc3d.segmenters.store import with_stored_models
from anymc3d.settings.config import TaskSettings
from anymc3d.settings.task_file import write_task
from anymc3d.train import log, result
from anymc3d.train.batch import BatchLoader
from anymc3d.train.checkpoint import TrainingState, clear_leftovers, load_checkpoint
from anymc3d.train.cost import write_cost
from anymc3d.train.loop import LabelledSet, Parts, restore, run_epochs
from anymc3d.train.losses import make_loss
from anymc3d.train.memory import enough_memory
from anymc3d.train.optimisation import build_optimizer
from anymc3d.train.processes import Processes, join
from anymc3d.train.run_folder import RunFolder, read_inputs
from anymc3d.train.segmentation import MaskSource, Segmentation, with_structures
from anymc3d.train.start import Start, find_start, settings_of_run, with_recipe
from anymc3d.train.study import Study, cases_hash, leave_out, load_study, masks_hash, undefined_figures
from anymc3d.train.task_checks import check_task, unused
from anymc3d.train.trunk_tokens import TrunkPass, trunk_pass

logger = logging.getLogger(__name__)


def fit(
    task: TaskSettings,
    run_dir: Path | str,
    *,
    device: str = "auto",
    pseudonyms: Pseudonyms | None = None,
    quiet: bool = False,
) -> Path:
    """Train ``task`` in ``run_dir`` and return the path of the plugin. The same call again resumes, or is done.

    With ``pseudonyms`` nothing in ``run_dir`` tells which cases they were; splits and weights are the same as without.

    Raises:
        AnyMC3DError: manifest, backbone or folder cannot be used; see ``anymc3d.errors`` for the kinds.
        InterruptedRunError: a stop was asked for; the state is saved.
    """
    check_task(task)
    task = with_recipe(replace(task, views=with_stored_models(task.views)))
    segmenters = build_segmenters(task.views.values())
    folder = RunFolder(Path(run_dir))
    where = choose_device(device)
    processes = join(where)
    with ExitStack() as held:
        processes.on_first(lambda: held.enter_context(locked(folder.path)))
        study = processes.together(lambda: load_study(task, pseudonyms))
        if processes.is_first:
            _tell(task, study)
        start = processes.together(lambda: find_start(task))
        if task.segmentation.is_on and start.backbone is not None:
            check_backbone(start.backbone.module, start.backbone.card.name)
        if task.method.blocks is not None and start.backbone is not None:
            check_blocks(start.backbone.module, task.method.blocks)
        if processes.on_first(lambda: _begin(folder, task, study, start)):
            logger.info("%s is finished; nothing to do", folder.path)
            return folder.plugin
        cache = Cache(home.cache_folder())
        wanted = study.indices("train") + study.indices("val")
        prepared = _prepare(study, wanted, task, cache, segmenters, processes, quiet)
        processes.on_first(partial(_check_inputs, folder, {"scans or masks": _content(study, prepared)}))
        study = leave_out(study, [i for i, case in prepared.items() if case.excluded], task.labels)
        if task.segmentation.is_on:
            task = with_structures(task, study, prepared)
            processes.on_first(partial(_write_task, folder, task))
        if processes.is_first and any(view.roi is not None for view in task.views.values()):
            log.write_regions(folder, study, prepared)
        forget_peak(where)
        with enough_memory(task.train, where):
            classifier = _classifier(task, start, where, processes)
            parts = _parts(task, Scans(study, prepared, cache, segmenters), start, classifier, folder, processes, quiet)
            best = _run(parts, folder)
            train_facts = [prepared[i] for i in study.indices("train")]
            processes.on_first(lambda: result.finish(folder, task, study, start, best, train_facts, parts))
    return folder.plugin


def _tell(task: TaskSettings, study: Study) -> None:
    """What the user should know before anything is read."""
    for line in undefined_figures(study, task.labels):
        logger.warning("%s", line)
    said = unused(task)
    if said:
        logger.warning("settings that say nothing to method %s: %s", task.method.name, ", ".join(said))


def _identity(task: TaskSettings, study: Study, start: Start) -> dict[str, object]:
    """What must be equal for a second command to be the same run."""
    settings = settings_of_run(task)
    if not task.segmentation.is_on:
        settings["segmentation"] = "none"  # as runs before there were decoders have it
    settings["backbone"] = start.record(task)
    seen = [index for index, split in enumerate(study.splits) if split != "test"]
    return {
        "kind": "train",
        "settings": settings,
        "cases": cases_hash(study, seen),
        "preprocessing_version": CODE_VERSION,
    }


def _begin(folder: RunFolder, task: TaskSettings, study: Study, start: Start) -> bool:
    """Claim the folder, write the inputs of the run into it, and say whether the run is finished already."""
    claim(folder.record, _identity(task, study, start), "a training run")
    clear_leftovers(folder.checkpoints)
    if task.segmentation.is_on:
        _check_inputs(folder, {"masks": masks_hash(study)})
    if folder.plugin.exists():
        return True
    write_manifest(folder.manifest, study.shown, {"split": study.splits})
    _write_task(folder, task)
    return False


def _content(study: Study, prepared: Mapping[int, PreparedCase]) -> str:
    """Sha256 over what the scans and masks of a run hold."""
    lines = [f"{study.manifest.cases[index].id}|{sorted(case.hashes.items())}" for index, case in prepared.items()]
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def _check_inputs(folder: RunFolder, inputs: Mapping[str, str]) -> None:
    """Note hashes of what a run learns from, or check that they are what they were when it began.

    Raises:
        RunFolderError: they are not.
    """
    found = read_inputs(folder.inputs)
    if any(found.get(name, value) != value for name, value in inputs.items()):
        raise RunFolderError(
            f"{folder.path}: {' and '.join(inputs)} of this run have changed since it began; put the old ones back to "
            "resume it, or choose another output folder"
        )
    if found.keys() != {*found, *inputs}:
        atomic.write_json(folder.inputs, {**found, **inputs})


def _write_task(folder: RunFolder, task: TaskSettings) -> None:
    own = replace(task, data=replace(task.data, manifest=str(folder.manifest)))
    write_task(folder.task, own, complete=True)


def _prepare(
    study: Study,
    wanted: list[int],
    task: TaskSettings,
    cache: Cache,
    segmenters: Segmenters,
    processes: Processes,
    quiet: bool,
) -> dict[int, PreparedCase]:
    """Read the wanted cases, each process its share, and return those of all by position.

    Raises:
        ManifestError: some cannot be read; every one is listed, whichever process met it.
    """
    mine = wanted[processes.rank :: processes.world_size]
    cases, found, problems = [study.manifest.cases[i] for i in mine], [], ()
    hidden = True if quiet or not processes.is_first else None
    try:
        with tqdm(total=len(cases), desc="reading scans", unit="scan", disable=hidden, leave=False) as bar:
            found = prepare_all(
                cases, task.views, cache, progress=bar.update, segmenters=segmenters, with_masks=task.segmentation.is_on
            )
    except ManifestError as error:
        problems = error.problems
    shares = processes.gather((dict(zip(mine, found, strict=False)), problems))
    problems = [problem for _, share in shares for problem in share]
    if problems:
        raise ManifestError("scans that cannot be used", problems)
    return {index: case for share, _ in shares for index, case in share.items()}


@dataclass(frozen=True)
class Scans:
    """The cases of a study with what is known of their scans, and where the prepared slices are."""

    study: Study
    prepared: Mapping[int, PreparedCase]
    cache: Cache
    segmenters: Segmenters

    def of(
        self, split: str, task: TaskSettings, device: torch.device, trunk: TrunkPass | None, *, training: bool
    ) -> LabelledSet:
        """The cases of one split as the loop takes them; augmented and with views left out where they are trained."""
        chosen = self.study.indices(split)
        cases = [self.study.manifest.cases[i] for i in chosen]
        source = CaseSet(cases, [self.prepared[i] for i in chosen], task.views, self.cache, self.segmenters)
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
        return LabelledSet([case.id for case in cases], loader, self.study.targets[chosen])


def _classifier(task: TaskSettings, start: Start, device: torch.device, processes: Processes) -> Classifier:
    """The classifier with the values it starts from, equal in all processes."""
    backbone = None if start.backbone is None else start.backbone.module.to(device)
    classifier = build_classifier(
        task.method,
        views=task.views,
        labels=task.labels,
        fusion=task.fusion,
        backbone=backbone,
        segmentation=task.segmentation,
        seed=task.train.seed,
    )
    if isinstance(classifier, BaselineClassifier):
        start.fill(classifier)
    classifier = classifier.to(device)
    processes.broadcast(tensor.data for tensor in classifier.tensors().values())
    return classifier


def _parts(
    task: TaskSettings,
    scans: Scans,
    start: Start,
    classifier: Classifier,
    folder: RunFolder,
    processes: Processes,
    quiet: bool,
) -> Parts:
    device = next(classifier.parameters()).device
    study, backbone = scans.study, start.backbone
    normalisation = {} if backbone is None else {"mean": backbone.card.mean, "std": backbone.card.std}
    encoding = Encoding(
        **normalisation,
        chunk_size=task.train.chunk_size,
        dtype=choose_dtype(task.train.precision, device),
        recompute=task.train.recompute,
    )
    trunk = trunk_pass(task, classifier, backbone, encoding)
    return Parts(
        backbone=None if backbone is None else backbone.module,
        classifier=classifier,
        optimizer=build_optimizer(classifier, task.train, task.segmentation.lr),
        encoding=encoding,
        train=scans.of("train", task, device, trunk, training=True),
        val=scans.of("val", task, device, trunk, training=False),
        labels=task.labels,
        loss=make_loss(task.train, task.labels, study.targets[study.indices("train")]),
        settings=task.train,
        processes=processes,
        checkpoints=folder.checkpoints,
        meter=meter_of(device) if processes.world_size == 1 else EnergyMeter((), ELSEWHERE),
        segmentation=Segmentation(task.segmentation.weight, len(task.segmentation.classes), task.train.seed)
        if task.segmentation.is_on
        else None,
        quiet=quiet,
    )


def _run(parts: Parts, folder: RunFolder) -> dict[str, torch.Tensor]:
    """Start or resume, train to the end, and return the best tensors."""
    state, best = TrainingState(), {}
    found = load_checkpoint(folder.checkpoints)
    if found is not None:
        tensors, state = found
        best = restore(parts, tensors)
        logger.info("resuming %s at epoch %d, step %d", folder.path, state.epoch + 1, state.step)
        # A kill between the checkpoint of an epoch and its line in the log must not cost the line.
        parts.processes.on_first(partial(_write_progress, folder, parts, state))
    return run_epochs(parts, state, best, partial(_write_progress, folder, parts))


def _write_progress(folder: RunFolder, parts: Parts, state: TrainingState) -> None:
    log.write(folder, state)
    write_cost(folder, parts, state)
