"""One job: a method on a task with a seed and a set of training cases; train, predict the test cases, evaluate.

Every job has its own folder and needs nothing of the others, so :func:`run_job` is the one path for a loop, processes,
a Slurm array and a Ray cluster. A killed job resumes; a finished one is known by its settings.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from anymc3d.benchmark.plan import Trial
from anymc3d.engines.work import Outcome
from anymc3d.errors import AnyMC3DError, InterruptedRunError, RunFolderError
from anymc3d.files import atomic
from anymc3d.files.folders import claim, differing, locked
from anymc3d.settings.plain import to_plain

logger = logging.getLogger(__name__)

RECORD, RESULT, FAILURE = "job.json", "result.json", "failure.json"
PREDICTIONS, FIGURES, TRIALS = "predictions", "figures", "trials"

GRADE_POINTS = ("youden", "youden@test")
"""Operating points of results by grade: the second as the paper's Table 8 seems to choose, and marked so."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is run, and where. ``manifest`` holds the cases that the job may see, with their split."""

    task: str
    method: str
    seed: int
    train_cases: int
    folder: Path
    manifest: Path
    cases_hash: str
    """Over ids, patients, splits and labels of the manifest's cases."""
    trials: tuple[Trial, ...]
    severity: str | None = None
    masks_hash: str | None = None
    """Over which masks the cases have, where the method learns from them."""

    @property
    def name(self) -> str:
        return self.folder.name

    def identity(self) -> dict[str, Any]:
        """What must be equal for an earlier result to be this job's."""
        tasks = [replace(trial.task, data=replace(trial.task.data, manifest="")) for trial in self.trials]
        settings = {f"trial {index + 1}": off_default(task) for index, task in enumerate(tasks)}
        identity = {"kind": "benchmark job", "cases": self.cases_hash, **settings}
        if self.masks_hash is not None:
            identity["masks"] = self.masks_hash
        objective = max(_objective(task.method.name) for task in tasks)
        if objective > 1:
            identity["objective"] = objective
        return identity if self.severity is None else identity | {"severity": self.severity}

    def fingerprint(self) -> str:
        """Sha256 of :meth:`identity`."""
        return hashlib.sha256(json.dumps(self.identity(), sort_keys=True).encode()).hexdigest()

    def trial_folder(self, index: int) -> Path:
        """The run folder of a trial; the only trial of a job without search is ``run``."""
        return self.folder / "run" if len(self.trials) == 1 else self.folder / TRIALS / str(index)


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How jobs are run; nothing of it changes what they are."""

    device: str = "auto"
    quiet: bool = True
    segmenters: tuple[str, ...] = ()
    """Files of networks that draw regions, or the program that does, as the person at the keyboard named them."""


def _objective(method: str) -> int:
    from anymc3d.models.zoo.table import ZOO

    return ZOO[method].recipe.objective if method in ZOO else 1


def off_default(settings: Any) -> Any:
    """Settings as JSON-ready data without what is at its default, so a version with more settings knows its jobs."""
    if not dataclasses.is_dataclass(settings):
        if isinstance(settings, Mapping):
            return {key: off_default(value) for key, value in settings.items()}
        return to_plain(settings)
    changed = {}
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        made = field.default_factory
        default = field.default if made is dataclasses.MISSING else made()
        if value != default:
            changed[field.name] = off_default(value)
    return changed


def job_state(job: Job) -> Outcome:
    """What the folder says: done, failed, or waiting (not begun, or killed on the way).

    Raises:
        RunFolderError: the folder holds a job of the same name with other settings.
    """
    record = job.folder / RECORD
    if record.exists():
        differences = list(differing(read_json(record), json.loads(json.dumps(job.identity()))))
        if differences:
            raise RunFolderError(
                f"{job.folder}: was made with other settings: {'; '.join(differences[:4])}; choose another output "
                "folder, give the method another name, or delete this one"
            )
    if (job.folder / RESULT).exists():
        return Outcome(job.name, "done")
    if (job.folder / FAILURE).exists():
        failure = read_json(job.folder / FAILURE)
        return Outcome(job.name, "failed", failure["message"], failure["exit_code"])
    return Outcome(job.name, "waiting")


def run_job(job: Job, options: RunOptions) -> Outcome:
    """Run a job to its end, or find it done; a failure is recorded in its folder and returned, not raised.

    Raises:
        InterruptedRunError, KeyboardInterrupt: a stop was asked for; the same call resumes.
    """
    try:
        with locked(job.folder):
            claim(job.folder / RECORD, job.identity(), "a benchmark job")
            if (job.folder / RESULT).exists():
                return Outcome(job.name, "done")
            # Of an earlier try: if this one is killed, that reason is not this one's.
            (job.folder / FAILURE).unlink(missing_ok=True)
            try:
                _work(job, options)
            except InterruptedRunError:
                raise
            except AnyMC3DError as error:
                return _record_failure(job, str(error), error.exit_code)
            except (MemoryError, RuntimeError, OSError) as error:
                # Memory, torch and the disk fail one job and not the others.
                return _record_failure(job, f"{type(error).__name__}: {' '.join(str(error).split())[:500]}", 1)
    except RunFolderError as error:
        return Outcome(job.name, "failed", str(error), error.exit_code)
    return Outcome(job.name, "done")


def _work(job: Job, options: RunOptions) -> None:
    from anymc3d.benchmark.selection import choose_trial
    from anymc3d.train.fit import fit

    plugins = []
    for index, trial in enumerate(job.trials):
        logger.info("%s%s", job.name, f", trial {index + 1} of {len(job.trials)}" if len(job.trials) > 1 else "")
        run = job.trial_folder(index)
        plugins.append(fit(trial.task, run, device=options.device, segmenters=options.segmenters, quiet=options.quiet))
    chosen, scores = choose_trial([job.trial_folder(index) for index in range(len(job.trials))])
    failed = _predict(job, plugins[chosen], options)
    _evaluate(job, chosen)
    atomic.write_json(
        job.folder / RESULT,
        {
            "settings": job.fingerprint(),
            "chosen": chosen,
            "trials": [
                {"choice": dict(trial.choice), **score} for trial, score in zip(job.trials, scores, strict=True)
            ],
            "failed_cases": failed,
        },
    )


def _predict(job: Job, plugin: Path, options: RunOptions) -> int:
    """Predict the test cases, and return how many failed.

    For results by grade the validation cases too: their threshold, one for all grades, is chosen there.
    """
    from anymc3d.data.manifest import read_manifest
    from anymc3d.plugins import load_plugin
    from anymc3d.predict.cohort import predict_cohort
    from anymc3d.predict.predictor import Predictor

    wanted = ("test",) if job.severity is None else ("val", "test")
    cases = [case for case in read_manifest(job.manifest, check_scans=False).cases if case.split in wanted]
    loaded = load_plugin(plugin)
    # A network of the zoo holds all its weights and takes no backbone.
    backbone = None if loaded.card.backbone is None else job.trials[0].task.backbone.name
    predictor = Predictor([loaded], backbone=backbone, device=options.device, segmenters=options.segmenters)
    result = predict_cohort(predictor, cases, job.folder / PREDICTIONS, quiet=options.quiet)
    return sum(row["status"] == "error" for row in result.rows)


def _evaluate(job: Job, chosen: int) -> None:
    from anymc3d.evaluate.command import evaluate_predictions
    from anymc3d.evaluate.study_cases import StudySettings

    by_grade = StudySettings(severity=(job.severity,), operating_points=GRADE_POINTS) if job.severity else None
    evaluate_predictions(
        job.folder / PREDICTIONS / "predictions.csv",
        job.manifest,
        job.folder / FIGURES,
        tasks=[job.trial_folder(chosen) / "task.yaml"],
        settings=by_grade,
        overwrite=True,
    )


def _record_failure(job: Job, message: str, exit_code: int) -> Outcome:
    logger.warning("%s failed: %s", job.name, message)
    atomic.write_json(job.folder / FAILURE, {"message": message, "exit_code": exit_code})
    return Outcome(job.name, "failed", message, exit_code)


def read_json(path: Path) -> Mapping[str, Any]:
    """A record of a job.

    Raises:
        RunFolderError: it is damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunFolderError(f"{path}: damaged ({error}); delete the folder {path.parent} to run it again") from None
