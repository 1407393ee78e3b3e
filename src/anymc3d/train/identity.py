"""What makes a second command the same run: the settings, the cases and what their files hold, kept in the folder."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace

from anymc3d.data.case_scans import PreparedCase
from anymc3d.data.manifest import write_manifest
from anymc3d.data.preprocess import CODE_VERSION
from anymc3d.errors import RunFolderError
from anymc3d.files import atomic
from anymc3d.files.folders import claim
from anymc3d.settings.config import TaskSettings
from anymc3d.settings.task_file import write_task
from anymc3d.train.checkpoint import clear_leftovers
from anymc3d.train.run_folder import RunFolder, read_inputs
from anymc3d.train.start import Start, settings_of_run
from anymc3d.train.study import Study, cases_hash, masks_hash


def begin(folder: RunFolder, task: TaskSettings, study: Study, start: Start) -> bool:
    """Claim the folder, write the inputs of the run into it, and say whether the run is finished already."""
    claim(folder.record, _identity(task, study, start), "a training run")
    clear_leftovers(folder.checkpoints)
    if task.segmentation.is_on:
        check_inputs(folder, {"masks": masks_hash(study)})
    if folder.plugin.exists():
        return True
    write_manifest(folder.manifest, study.shown, {"split": study.splits})
    write_task_of_run(folder, task)
    return False


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


def check_inputs(folder: RunFolder, inputs: Mapping[str, str]) -> None:
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


def content_of(study: Study, prepared: Mapping[int, PreparedCase]) -> str:
    """Sha256 over what the scans and masks of a run hold."""
    lines = [f"{study.manifest.cases[index].id}|{sorted(case.hashes.items())}" for index, case in prepared.items()]
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def write_task_of_run(folder: RunFolder, task: TaskSettings) -> None:
    """The task as it is trained, every setting written out, with the manifest of the run folder."""
    own = replace(task, data=replace(task.data, manifest=str(folder.manifest)))
    write_task(folder.task, own, complete=True)
