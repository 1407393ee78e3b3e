"""``fit``: a task and a run folder in, a plugin out. The training twin of ``anymc3d.predict``.

The order of work is the order of the functions: cases, scans, parts, epochs, result.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from tqdm import tqdm

from anymc3d import home
from anymc3d.config import TaskSettings
from anymc3d.data.cache import Cache
from anymc3d.data.dataset import CaseSet, PreparedCase, Segmenters, prepare_all
from anymc3d.data.manifest import write_manifest
from anymc3d.data.preprocess import CODE_VERSION
from anymc3d.device import choose_device, choose_dtype
from anymc3d.errors import ManifestError
from anymc3d.folders import claim, locked
from anymc3d.models.classifier import Encoding, VolumeClassifier
from anymc3d.models.decoders.table import check_backbone
from anymc3d.models.store import LoadedBackbone, find_backbone
from anymc3d.plugins import lora_rank, new_decoders
from anymc3d.pseudonyms import Pseudonyms
from anymc3d.segmenters.build import build_segmenters
from anymc3d.segmenters.store import with_stored_models
from anymc3d.task_file import task_to_dict, write_task
from anymc3d.train import log, result
from anymc3d.train.batch import BatchLoader
from anymc3d.train.checkpoint import TrainingState, clear_leftovers, load_checkpoint
from anymc3d.train.loop import LabelledSet, Parts, restore, run_epochs
from anymc3d.train.losses import make_loss
from anymc3d.train.memory import enough_memory
from anymc3d.train.optimisation import build_optimizer
from anymc3d.train.processes import Processes, join
from anymc3d.train.run_folder import RunFolder
from anymc3d.train.segmentation import MaskSource, Segmentation, with_structures
from anymc3d.train.study import Study, leave_out, load_study, undefined_figures
from anymc3d.train.task_checks import check_task

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
    task = replace(task, views=with_stored_models(task.views))
    segmenters = build_segmenters(task.views.values())
    folder = RunFolder(Path(run_dir))
    where = choose_device(device)
    processes = join(where)
    with ExitStack() as held:
        processes.on_first(lambda: held.enter_context(locked(folder.path)))
        study = processes.together(lambda: load_study(task, pseudonyms))
        if processes.is_first:
            for line in undefined_figures(study, task.labels):
                logger.warning("%s", line)
        backbone = processes.together(lambda: find_backbone(task.backbone.name, position_rule=task.backbone.positions))
        if task.segmentation.is_on:
            check_backbone(backbone.module, backbone.card.name)
        if processes.on_first(lambda: _begin(folder, task, study, backbone)):
            logger.info("%s is finished; nothing to do", folder.path)
            return folder.plugin
        cache = Cache(home.cache_folder())
        wanted = study.indices("train") + study.indices("val")
        prepared = _prepare(study, wanted, task, cache, segmenters, processes, quiet)
        study = leave_out(study, [i for i, case in prepared.items() if case.excluded], task.labels)
        if task.segmentation.is_on:
            task = with_structures(task, study, prepared)
            processes.on_first(partial(_write_task, folder, task))
        if processes.is_first and any(view.roi is not None for view in task.views.values()):
            log.write_regions(folder, study, prepared)
        with enough_memory(task.train, where):
            parts = _parts(task, study, prepared, backbone, cache, segmenters, folder, where, processes, quiet)
            best = _run(parts, folder)
            train_facts = [prepared[i] for i in study.indices("train")]
            processes.on_first(lambda: result.finish(folder, task, study, backbone, best, train_facts, parts))
    return folder.plugin


def _identity(task: TaskSettings, study: Study, backbone: LoadedBackbone) -> dict[str, object]:
    """What must be equal for a second command to be the same run."""
    settings = task_to_dict(replace(task, data=replace(task.data, manifest="")))
    if not task.segmentation.is_on:
        settings["segmentation"] = "none"  # as runs before there were decoders have it
    settings["backbone"] = {"fingerprint": backbone.fingerprint, "positions": task.backbone.positions}
    cases = "\n".join(
        f"{case.id}|{case.patient}|{split}|{row.tolist()}"
        for case, split, row in zip(study.manifest.cases, study.splits, study.targets, strict=True)
        if split != "test"
    )
    return {
        "kind": "train",
        "settings": settings,
        "cases": hashlib.sha256(cases.encode()).hexdigest(),
        "preprocessing_version": CODE_VERSION,
    }


def _begin(folder: RunFolder, task: TaskSettings, study: Study, backbone: LoadedBackbone) -> bool:
    """Claim the folder, write the inputs of the run into it, and say whether the run is finished already."""
    claim(folder.record, _identity(task, study, backbone), "a training run")
    clear_leftovers(folder.checkpoints)
    if folder.plugin.exists():
        return True
    write_manifest(folder.manifest, study.shown, {"split": study.splits})
    _write_task(folder, task)
    return False


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


def _parts(
    task: TaskSettings,
    study: Study,
    prepared: Mapping[int, PreparedCase],
    backbone: LoadedBackbone,
    cache: Cache,
    segmenters: Segmenters,
    folder: RunFolder,
    device: torch.device,
    processes: Processes,
    quiet: bool,
) -> Parts:
    network = backbone.module.to(device)
    classifier = VolumeClassifier(
        network,
        views=tuple(task.views),
        num_logits=task.labels.num_logits,
        head=task.labels.head,
        neighbours=[name for name, view in task.views.items() if view.input == "neighbours"],
        fusion=task.fusion,
        decoders=new_decoders(task.segmentation, network, tuple(task.views), task.train.seed),
        rank=lora_rank(task.method),
        alpha=task.method.alpha,
        seed=task.train.seed,
    ).to(device)
    processes.broadcast(p.data for p in classifier.parameters())

    def labelled(split: str, augmentation: str, view_dropout: float = 0.0) -> LabelledSet:
        chosen = study.indices(split)
        cases = [study.manifest.cases[i] for i in chosen]
        source = CaseSet(cases, [prepared[i] for i in chosen], task.views, cache, segmenters)
        loader = BatchLoader(
            source,
            task.views,
            device=device,
            augmentation=augmentation,
            view_dropout=view_dropout,
            masks=MaskSource(source, task.segmentation.classes) if task.segmentation.is_on else None,
            seed=task.train.seed,
        )
        return LabelledSet([case.id for case in cases], loader, study.targets[chosen])

    return Parts(
        backbone=network,
        classifier=classifier,
        optimizer=build_optimizer(classifier, task.train, task.segmentation.lr),
        encoding=Encoding(
            mean=backbone.card.mean,
            std=backbone.card.std,
            chunk_size=task.train.chunk_size,
            dtype=choose_dtype(task.train.precision, device),
            recompute=task.train.recompute,
        ),
        train=labelled("train", task.augmentation, task.train.view_dropout),
        val=labelled("val", "none"),
        labels=task.labels,
        loss=make_loss(task.train, task.labels, study.targets[study.indices("train")]),
        settings=task.train,
        processes=processes,
        checkpoints=folder.checkpoints,
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
        parts.processes.on_first(partial(log.write, folder, state))
    return run_epochs(parts, state, best, lambda now: log.write(folder, now))
