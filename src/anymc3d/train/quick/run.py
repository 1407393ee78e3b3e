"""``fit_quick``: the first answer in minutes. Frozen features or a plain method, nested cross-validation, learning
curve, a plugin.

The order of work is the order of :func:`fit_quick`. Test rows take no part in anything: their scans are not opened.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from anymc3d.cost.device import choose_device
from anymc3d.cost.progress import Progress
from anymc3d.data.cache import Cache
from anymc3d.data.manifest import write_manifest
from anymc3d.data.pseudonyms import Pseudonyms
from anymc3d.errors import ManifestError, UsageError
from anymc3d.files import home
from anymc3d.files.folders import claim, locked
from anymc3d.models.build import is_baseline
from anymc3d.models.plain import is_plain
from anymc3d.segmenters.build import check_programs
from anymc3d.settings.config import TaskSettings
from anymc3d.settings.task_file import write_task
from anymc3d.settings.training import MethodSettings
from anymc3d.train.covariates.record import cells_of_cases
from anymc3d.train.identity import is_finished
from anymc3d.train.quick import results
from anymc3d.train.quick.covariates import nested_answers, plugin_record
from anymc3d.train.quick.crossval import (
    Learner,
    NestedResult,
    choose_with_logits,
    nested,
    purpose_seed,
)
from anymc3d.train.quick.curve import Curve, make_curve
from anymc3d.train.quick.embedded import NOTE, as_embedded, cases_of, read_embedded
from anymc3d.train.quick.findings import CovariateFindings, Findings, Plan
from anymc3d.train.quick.folder import QuickFolder, StageLog, identity, refuse_other_runs
from anymc3d.train.quick.prepare import make_plan
from anymc3d.train.quick.settings import QuickSettings, candidates
from anymc3d.train.quick.subject import Subject, read_subject, subject_of
from anymc3d.train.stopping import listening
from anymc3d.train.study import undefined_figures
from anymc3d.train.task_checks import check_task

logger = logging.getLogger(__name__)


def fit_quick(
    task: TaskSettings,
    run_dir: Path | str,
    *,
    settings: QuickSettings | None = None,
    device: str = "auto",
    segmenters: Sequence[str | Path] = (),
    quiet: bool = False,
    pseudonyms: Pseudonyms | None = None,
    embeddings: Path | None = None,
) -> Path:
    """Make a frozen plugin and the report on it in ``run_dir``; return the path of ``quick.json``.

    The same call again resumes (features are kept), or is done. With ``pseudonyms`` nothing in
    ``run_dir`` says which cases they were; folds are then dealt by the pseudonyms. With ``embeddings``, a folder of
    ``anymc3d embed``, no scan is opened, and none has to be there.

    Raises:
        AnyMC3DError: task, manifest, backbone or folder cannot be used; see ``anymc3d.errors`` for the kinds.
        InterruptedRunError: a stop was asked for; the features so far are kept.
    """
    settings = settings or QuickSettings()
    embedded = None if embeddings is None else read_embedded(embeddings)
    task = _as_quick(task if embedded is None else as_embedded(task, embedded), settings)
    check_programs(task.views.values(), segmenters)
    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise UsageError("--quick runs in one process; start it without torchrun")
    folder, where = QuickFolder(Path(run_dir)), choose_device(device)
    with locked(folder.path):
        refuse_other_runs(folder)
        plan = make_plan(task, settings, pseudonyms, embedded)
        run_identity, embedded_cases = identity(plan.task, plan.study, plan.backbone, settings), None
        if embedded is not None and plan.backbone is not None:
            embedded_cases = cases_of(embedded, plan.cases, plan.backbone)
            run_identity |= embedded.identity | {"embedded_content": embedded_cases.content}
        claim(folder.record, run_identity, "a --quick run")
        if is_finished(folder.plugin):
            logger.info("%s is finished; nothing to do", folder.path)
            return folder.report
        _begin(folder, plan)
        log = StageLog(folder.log_jsonl)
        with listening() as stop:
            if embedded_cases is None:
                subject = read_subject(plan, folder, where, segmenters, stop, log, quiet)
            else:
                subject = subject_of(plan, embedded_cases, log)
                if not embedded_cases.know_their_scans:
                    logger.warning("%s", NOTE)
        plan = subject.plan
        findings = _find(plan, subject.learner, subject.trivial, log, quiet)
        findings = _with_covariates(plan, findings, subject)
        fitted = subject.fitted(findings.chosen, plan.of_split("train"))
        results.write(folder, plan, subject.learner, findings, fitted, subject.prepared)
        log.stage("plugin and report")
    return folder.report


def _as_quick(task: TaskSettings, settings: QuickSettings) -> TaskSettings:
    """The task as it is learnt here: a plain method as it is, otherwise heads on frozen features.

    Raises:
        UsageError: a method or setting that has no place here.
    """
    if is_baseline(task.method):
        raise UsageError(
            f"--quick learns on frozen features of the backbone, and method {task.method.name} has none; leave out "
            "--quick, or set method=anymc3d"
        )
    if task.segmentation.is_on:
        raise UsageError("--quick learns without a decoder; leave out --quick, or set segmentation=none")
    method = task.method if is_plain(task.method) else MethodSettings(name="frozen")
    task = replace(task, method=method, train=replace(task.train, copies=None))
    check_task(task)
    candidates(task, settings)
    return task


def _begin(folder: QuickFolder, plan: Plan) -> None:
    """Write what is trained on, and say what cannot be measured and what was limited."""
    write_manifest(folder.manifest, plan.study.written, {"split": plan.study.splits})
    written = replace(plan.task, data=replace(plan.task.data, manifest=str(folder.manifest)))
    write_task(folder.task, written, complete=True)
    for line in undefined_figures(plan.study, plan.task.labels):
        logger.warning("%s", line)
    for note in plan.notes:
        logger.info("%s; --slices changes it", note)


def _find(plan: Plan, learner: Learner, trivial: Learner | None, log: StageLog, quiet: bool) -> Findings:
    settings, seed = plan.settings, plan.task.data.split_seed
    runs = 1 + (trivial is not None) + len(settings.fractions) * settings.repeats
    with Progress(total=runs * len(plan.pool.fold_names), what="cross-validation", unit="fold", quiet=quiet) as bar:

        def run(of: Learner, fraction: float = 1.0, draw: int = 0) -> NestedResult | str:
            return nested(
                of,
                plan.pool,
                inner_folds=settings.inner_folds,
                seed=seed,
                fraction=fraction,
                draw=draw,
                progress=bar.update,
            )

        whole = run(learner)
        plain = None if trivial is None else run(trivial)
        log.stage("nested cross-validation", candidates=len(learner.candidates))
        parts = {f: [run(learner, f, draw) for draw in range(settings.repeats)] for f in settings.fractions}
    if isinstance(whole, str) or isinstance(plain, str):
        raise ManifestError("folds that --quick cannot use", [str(whole)])
    curve = _curve(plan, whole, parts)
    train = plan.of_split("train")
    chosen, inner = choose_with_logits(
        learner, plan.pool, train, inner_folds=settings.inner_folds, seed=purpose_seed(seed, "plugin")
    )
    log.stage("learning curve", repeats=settings.repeats)
    return Findings(whole, curve, plain, chosen, inner)


def _with_covariates(plan: Plan, findings: Findings, subject: Subject) -> Findings:
    """The same folds again with the covariates of the task, if it has any."""
    task, pool, train = plan.task, plan.pool, plan.of_split("train")
    if not task.covariates:
        return findings
    cells = cells_of_cases(task, plan.cases, subject.prepared, Cache(home.cache_folder()))
    answers = nested_answers(task, pool, cells, findings.nested)
    record = plugin_record(task, pool, cells, train, findings.inner)
    return replace(findings, covariates=CovariateFindings(cells, answers, record))


def _curve(plan: Plan, whole: NestedResult, parts: dict[float, list[NestedResult | str]]) -> Curve:
    fits: dict[float, list[np.ndarray] | str] = {1.0: [whole.logits]}
    sizes = {1.0: float(np.mean(whole.num_train))}
    for fraction, outcomes in parts.items():
        reasons = [outcome for outcome in outcomes if isinstance(outcome, str)]
        nested_fits = [outcome for outcome in outcomes if isinstance(outcome, NestedResult)]
        fits[fraction] = reasons[0] if reasons else [fit.logits for fit in nested_fits]
        sizes[fraction] = (
            fraction * sizes[1.0]
            if reasons
            else float(np.mean([number for fit in nested_fits for number in fit.num_train]))
        )
    return make_curve(plan.pool, fits, sizes, resamples=plan.settings.resamples, seed=plan.task.data.split_seed)
