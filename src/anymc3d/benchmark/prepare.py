"""From a checked plan to jobs: the cases of every task are read, split and chosen once, for all methods."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from anymc3d.benchmark.jobs import Job
from anymc3d.benchmark.plan import ALL, Plan, Trial
from anymc3d.benchmark.subsets import choose_cases
from anymc3d.data.manifest import write_manifest
from anymc3d.data.patients import patients_of
from anymc3d.errors import AnyMC3DError, ProblemsError, UsageError
from anymc3d.models.build import ON_BACKBONE
from anymc3d.settings.config import TaskSettings
from anymc3d.settings.plain import to_plain
from anymc3d.train.start import find_start
from anymc3d.train.study import Study, cases_hash, check_splits, load_study, masks_hash

DATA, JOBS = "data", "jobs"


@dataclass(frozen=True)
class Cohort:
    """The cases of a task for one number of training cases; positions in the task's manifest."""

    study: Study
    chosen: tuple[int, ...]
    train_cases: int
    path: Path

    def write(self) -> None:
        """Write the manifest that all jobs of this cohort read."""
        cases = [self.study.manifest.cases[index] for index in self.chosen]
        splits = [self.study.splits[index] for index in self.chosen]
        write_manifest(self.path, self.study.manifest, {"split": splits}, cases=cases)


def prepare_jobs(plan: Plan, out: Path) -> tuple[list[Cohort], list[Job]]:
    """The cohorts and jobs of a plan in ``out``, in the order task, training cases, seed, method; writes nothing.

    Raises:
        ProblemsError: manifests, subsets or backbones that cannot be used; all of them.
    """
    problems = list(_missing_weights(plan))
    cohorts: dict[tuple[str, int], Cohort] = {}
    for task in plan.settings.tasks:
        try:
            for cohort in _cohorts(plan, task, out):
                cohorts.setdefault((task, cohort.train_cases), cohort)
        except ProblemsError as error:
            problems += [f"tasks.{task}: {problem}" for problem in error.problems]
        except AnyMC3DError as error:
            problems.append(f"tasks.{task}: {error}")
    if problems:
        raise ProblemsError(str(plan.source), problems)
    jobs = [job for (task, _), cohort in cohorts.items() for job in _jobs(plan, task, cohort, out)]
    return list(cohorts.values()), jobs


def _jobs(plan: Plan, task: str, cohort: Cohort, out: Path) -> Iterator[Job]:
    for seed in plan.settings.seeds:
        for method in plan.settings.methods:
            trials = [
                Trial(trial.choice, _of_job(trial.task, cohort.path, seed)) for trial in plan.trials[task, method]
            ]
            yield Job(
                task=task,
                method=method,
                seed=seed,
                train_cases=cohort.train_cases,
                folder=out / JOBS / f"{task}_{method}_n{cohort.train_cases}_seed{seed}",
                manifest=cohort.path,
                cases_hash=cases_hash(cohort.study, cohort.chosen),
                masks_hash=masks_hash(cohort.study, cohort.chosen)
                if any(trial.task.segmentation.is_on for trial in trials)
                else None,
                trials=tuple(trials),
                severity=plan.settings.severity.get(task),
            )


def _of_job(task: TaskSettings, manifest: Path, seed: int) -> TaskSettings:
    data = replace(task.data, manifest=str(manifest.absolute()))
    return replace(task, data=data, train=replace(task.train, seed=seed))


def _cohorts(plan: Plan, task: str, out: Path) -> Iterator[Cohort]:
    settings, first = plan.settings, plan.first(task)
    if first.labels.is_number:
        raise UsageError(f"task {task!r}: a benchmark compares by AUROC, and {first.labels.columns[0]} is a number")
    study = load_study(first)
    test = study.indices("test")
    if not test:
        raise ProblemsError(str(study.manifest.path), ["split 'test': expected cases with labels, got none"])
    test = _subset(study, test, settings.test_cases, settings.subset_seed)
    for wanted in settings.train_cases:
        train = _subset(study, study.indices("train"), wanted, settings.subset_seed)
        chosen = tuple(sorted([*train, *study.indices("val"), *test]))
        left_out = frozenset(range(len(study.splits))) - set(chosen)
        check_splits(replace(study, excluded=left_out), first.labels)
        yield Cohort(study, chosen, len(train), out / DATA / f"{task}_n{len(train)}.csv")


def _subset(study: Study, positions: list[int], wanted: int | float | str, seed: int) -> list[int]:
    if wanted == ALL:
        return positions
    patients = patients_of([study.manifest.cases[index] for index in positions])
    return [positions[index] for index in choose_cases(patients, study.targets[positions], wanted, seed=seed)]


def _missing_weights(plan: Plan) -> Iterator[str]:
    """One line per method whose backbone or published weights are not at hand; each is loaded once."""
    wanted: dict[tuple[object, ...], tuple[str, TaskSettings]] = {}
    for (_, method), trials in plan.trials.items():
        for trial in trials:
            task = trial.task
            network = None if task.method.name in ON_BACKBONE else (task.method.name, task.method.weights)
            wanted.setdefault((task.backbone, network), (method, task))
    for method, task in wanted.values():
        try:
            find_start(task)
        except AnyMC3DError as error:
            yield f"methods.{method}: {error}"


def data_set_rows(plan: Plan, cohorts: list[Cohort]) -> list[dict[str, object]]:
    """What Table 3 says of a data set, measured: one row per cohort."""
    by_path = {cohort.path.stem: cohort for cohort in cohorts}
    rows = []
    for task in plan.settings.tasks:
        for cohort in (cohort for stem, cohort in by_path.items() if stem.rpartition("_n")[0] == task):
            rows.append(_data_set(task, plan.first(task), cohort))
    return rows


def _data_set(task: str, settings: TaskSettings, cohort: Cohort) -> dict[str, object]:
    split = np.array([cohort.study.splits[index] for index in cohort.chosen])
    targets = cohort.study.targets[list(cohort.chosen)]
    view = next(iter(settings.views.values()))
    known = targets[~np.isnan(targets)]
    binary = settings.labels.kind in ("binary", "multilabel")
    return {
        "task": task,
        "name": settings.name,
        "modality": settings.data.modality,
        "normalise": view.normalise if not view.windows else _windows(to_plain(settings), next(iter(settings.views))),
        "size": "x".join("own" if size is None else str(size) for size in view.size),
        "views": len(settings.views),
        "total": len(split),
        **{name: int((split == name).sum()) for name in ("train", "val", "test")},
        "positive_percent": round(100 * float((known > 0).mean()), 2) if binary and known.size else None,
    }


def _windows(task: Mapping[str, dict], view: str) -> str:
    return " ".join(f"[{low:g},{high:g}]" for low, high in task["views"][view]["windows"])
