"""What makes a second command the same run: the settings, the cases and what their files hold, kept in the folder."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from anymc3d.cost.device import DTYPES, has_native_bf16, number_format
from anymc3d.data.case_scans import PreparedCase
from anymc3d.data.manifest import write_manifest
from anymc3d.data.preprocess import CODE_VERSION
from anymc3d.errors import PluginError, RunFolderError
from anymc3d.files import atomic
from anymc3d.files.folders import claim, recorded
from anymc3d.plugins import load_plugin
from anymc3d.settings.config import TaskSettings
from anymc3d.settings.task_file import write_task
from anymc3d.train.checkpoint import clear_leftovers
from anymc3d.train.run_folder import RunFolder, read_inputs
from anymc3d.train.start import Start, settings_of_run
from anymc3d.train.study import Study, cases_hash, covariates_record, masks_hash

logger = logging.getLogger(__name__)

FORMAT = "number_format"
"""The key of ``run.json`` that says what ``train.precision`` meant where the run began."""


class Begun(NamedTuple):
    """``finished``: nothing is left to do. ``number_format``: of the backbone's arithmetic, in all of the run."""

    finished: bool
    number_format: str


def begin(
    folder: RunFolder,
    task: TaskSettings,
    study: Study,
    start: Start,
    device: torch.device,
    number_format: str | None = None,
) -> Begun:
    """Claim the folder, write the inputs of the run into it, and say how it goes on.

    ``number_format``: that of the whole of which this run is a part; else it is chosen here.

    Raises:
        RunFolderError: the folder is another run's, or its number format cannot be computed here.
    """
    chosen = number_format or chosen_format(folder.record, task.train.precision, device)
    claim(folder.record, _identity(task, study, start) | {FORMAT: chosen}, "a training run", later=[FORMAT])
    clear_leftovers(folder.checkpoints)
    if task.segmentation.is_on:
        check_inputs(folder, {"masks": masks_hash(study)})
    if is_finished(folder.plugin):
        return Begun(True, chosen)
    write_manifest(folder.manifest, study.written, {"split": study.splits})
    write_task_of_run(folder, task)
    return Begun(False, chosen)


def is_finished(plugin: Path) -> bool:
    """Whether a run's plugin is there and whole; a damaged one is made again."""
    if not os.path.lexists(plugin):
        return False
    try:
        load_plugin(plugin)
    except PluginError as error:
        logger.warning("%s; it is made again from the checkpoint", error)
        return False
    return True


def chosen_format(record: Path, precision: str, device: torch.device) -> str:
    """What ``precision`` means in a run: ``auto`` what it became when the run began, whatever it would become here.

    Raises:
        RunFolderError: the run's record is damaged, or names an unknown format.
    """
    current = number_format(precision, device)
    began = recorded(record, FORMAT) if precision == "auto" else None
    if began is None or began == current:
        return current
    if began not in DTYPES:
        raise RunFolderError(f"{record}: {FORMAT}: expected {' or '.join(DTYPES)}, got {str(began)[:40]!r}")
    slowly = "" if began == "fp32" or has_native_bf16(device) else ", which is slow here, where it is emulated"
    logger.warning(
        "this run goes on in %s, in which it began%s; for %s, as train.precision=auto means on this device, train in "
        "another output folder",
        *(began, slowly, current),
    )
    return str(began)


def _identity(task: TaskSettings, study: Study, start: Start) -> dict[str, Any]:
    """What must be equal for a second command to be the same run."""
    settings = settings_of_run(task)
    if not task.segmentation.is_on:
        settings["segmentation"] = "none"  # as runs before there were decoders have it
    settings["backbone"] = start.record(task)
    used = [index for index, split in enumerate(study.splits) if split != "test"]
    return {
        "kind": "train",
        "settings": settings,
        "cases": cases_hash(study, used),
        **covariates_record(study, task.covariates, used),
        "preprocessing_version": CODE_VERSION,
    }


def check_inputs(folder: RunFolder, inputs: Mapping[str, str]) -> None:
    """Note hashes of what a run learns from, or check that they are what they were when it began.

    Raises:
        RunFolderError: they are not.
    """
    noted = read_inputs(folder.inputs)
    if any(noted.get(name, value) != value for name, value in inputs.items()):
        raise RunFolderError(
            f"{folder.path}: {' and '.join(inputs)} of this run have changed since it began; put the old ones back to "
            "resume it, or choose another output folder"
        )
    if noted.keys() != {*noted, *inputs}:
        atomic.write_json(folder.inputs, {**noted, **inputs})


def content_of(study: Study, prepared: Mapping[int, PreparedCase]) -> str:
    """Sha256 over what the scans and masks of a run hold."""
    lines = [f"{study.manifest.cases[index].id}|{sorted(case.hashes.items())}" for index, case in prepared.items()]
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def write_task_of_run(folder: RunFolder, task: TaskSettings) -> None:
    """The task as it is trained, every setting written out, with the manifest of the run folder."""
    task_of_run = replace(task, data=replace(task.data, manifest=str(folder.manifest)))
    write_task(folder.task, task_of_run, complete=True)
