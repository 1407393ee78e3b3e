"""``results.csv``: one long table of all jobs, made from their own files, so it can be made again at any time.

Beside the results of every job: the paired test of every method against the reference, and over several seeds the
mean, the standard deviation, and the results of the averaged scores.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from anymc3d.benchmark.cost import COST_COLUMNS, read_cost
from anymc3d.benchmark.jobs import FIGURES, PREDICTIONS, RESULT, Job, Outcome, read_json
from anymc3d.benchmark.pairs import JobScores, averaged, paired_rows, read_scores
from anymc3d.files.tables import read_table, write_table
from anymc3d.models.build import ON_BACKBONE
from anymc3d.settings.config import TaskSettings

RESULTS = "results.csv"
MEAN, SD, AVERAGED = "mean", "sd", "averaged"
"""In the column ``seed``: over all seeds of a method. ``averaged``: of the mean over seeds of each case's score."""

FAILED, WAITING = "failed", "waiting"
"""In the column ``metric``: of a job without results, because it failed or was not run yet."""

FIGURE_COLUMNS = (
    *("label", "metric", "group", "split", "operating_point", "value"),
    *("ci_low", "ci_high", "ci_method", "n", "n_positive", "reason"),
)
SYSTEM_COLUMNS = ("system", "backbone", "fusion", "segmentation", "trials")
COLUMNS = (
    *("task", "method", "seed", "train_cases"),
    *FIGURE_COLUMNS,
    "reference",
    *SYSTEM_COLUMNS,
    *COST_COLUMNS,
)

Row = dict[str, Any]


@dataclass(frozen=True)
class Done:
    """A finished job with what its rows share."""

    job: Job
    frame: Row
    scores: JobScores


def write_results(path: Path, jobs: Sequence[Job], outcomes: Mapping[str, Outcome], *, reference: str) -> None:
    """Write the table of all finished and failed jobs, in the order of the plan."""
    done_jobs = [_done(job) for job in jobs if _state(job, outcomes) == "done"]
    rows: list[Row] = [row for done_job in done_jobs for row in _own_rows(done_job)]
    rows += [_failed_row(job, outcomes[job.name].message) for job in jobs if _state(job, outcomes) == "failed"]
    rows += [_row_without_figure(job) | {"metric": WAITING} for job in jobs if _state(job, outcomes) == "waiting"]
    for frame, members in _cells(done_jobs):
        rows += [frame | row for row in paired_rows(_by_method(members, reference), reference)]
    rows += _over_seeds(done_jobs, [row for row in rows if row["metric"] not in (FAILED, WAITING)], jobs, reference)
    write_table(path, COLUMNS, rows)


def _state(job: Job, outcomes: Mapping[str, Outcome]) -> str:
    return outcomes[job.name].state if job.name in outcomes else "waiting"


def _done(job: Job) -> Done:
    chosen = read_json(job.folder / RESULT)["chosen"]
    task = job.trials[chosen].task
    frame: Row = {"task": job.task, "method": job.method, "seed": str(job.seed), "train_cases": job.train_cases}
    frame |= describe_system(task) | {"trials": len(job.trials)}
    frame |= read_cost(job.trial_folder(chosen), job.folder / PREDICTIONS)
    return Done(job, frame, read_scores(job.folder / PREDICTIONS / "predictions.csv", job.manifest, task.labels))


def describe_system(task: TaskSettings) -> Row:
    """Which kind of system a method is, for the layouts; a network of the zoo has no fusion or backbone of ours."""
    ours = task.method.name in ON_BACKBONE
    return {
        "system": task.method.name,
        "backbone": Path(task.backbone.name).name if ours else "",
        "fusion": task.fusion if ours else "",
        "segmentation": task.segmentation.decoder if ours or task.segmentation.is_on else "",
    }


def _own_rows(one: Done) -> Iterator[Row]:
    for row in read_table(one.job.folder / FIGURES / "metrics.csv"):
        yield one.frame | {name: row[name] for name in FIGURE_COLUMNS}


def _failed_row(job: Job, message: str) -> Row:
    return _row_without_figure(job) | {"metric": FAILED, "reason": message}


def _row_without_figure(job: Job) -> Row:
    frame = {"task": job.task, "method": job.method, "seed": str(job.seed), "train_cases": job.train_cases}
    return frame | describe_system(job.trials[0].task)


def _cells(done_jobs: Sequence[Done]) -> Iterator[tuple[Row, list[Done]]]:
    """The finished jobs of one task, seed and number of training cases: those that can be paired."""
    cells: dict[tuple[str, str, int], list[Done]] = defaultdict(list)
    for done_job in done_jobs:
        cells[done_job.job.task, str(done_job.job.seed), done_job.job.train_cases].append(done_job)
    for (task, seed, cases), members in cells.items():
        yield {"task": task, "seed": seed, "train_cases": cases}, members


def _by_method(members: Sequence[Done], reference: str) -> dict[str, tuple[JobScores, Row]]:
    shared = {member.job.method: (member.scores, {n: member.frame[n] for n in SYSTEM_COLUMNS}) for member in members}
    return shared if reference in shared else {}


def _over_seeds(done_jobs: Sequence[Done], rows: Sequence[Row], jobs: Sequence[Job], reference: str) -> Iterator[Row]:
    """Rows over seeds, where a plan has several and a method finished at least two."""
    planned = len({job.seed for job in jobs})
    groups: dict[tuple[str, str, int], list[Done]] = defaultdict(list)
    for done_job in done_jobs:
        groups[done_job.job.task, done_job.job.method, done_job.job.train_cases].append(done_job)
    several = {key: members for key, members in groups.items() if len(members) > 1}
    rows_of: dict[tuple[str, str, int], list[Row]] = defaultdict(list)
    for row in rows:
        rows_of[row["task"], row["method"], row["train_cases"]].append(row)
    for key, members in several.items():
        yield from _mean_and_sd(members[0].frame, rows_of[key], len(members), planned)
    # Methods are compared on the same seeds alone: those that all of the compared have.
    for task, cases in dict.fromkeys((task, cases) for task, _, cases in several):
        yield from _averaged_rows(
            {method: members for (t, method, c), members in several.items() if (t, c) == (task, cases)},
            planned,
            reference,
        )


def _mean_and_sd(frame: Row, rows: Sequence[Row], finished: int, planned: int) -> Iterator[Row]:
    by_figure: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in rows:
        if row.get("reference"):
            continue
        by_figure[row["label"], row["metric"], row["group"], row["split"], row["operating_point"]].append(row)
    of_seeds = "" if finished == planned else f"{finished} of {planned} seeds"
    for (label, metric, group, split, point), of_figure in by_figure.items():
        values = [float(row["value"]) for row in of_figure if row["value"] not in (None, "")]
        place = {"label": label, "metric": metric, "group": group, "split": split, "operating_point": point}
        counts = {name: of_figure[0][name] for name in ("n", "n_positive")}
        lacking = "" if len(values) == finished else f"undefined for {finished - len(values)} of {finished} seeds"
        for name, compute, least in ((MEAN, np.mean, 1), (SD, _deviation, 2)):
            value = float(f"{compute(values):.12g}") if len(values) >= least and not lacking else None
            reason = "; ".join(filter(None, (lacking, of_seeds)))
            yield _without_cost(frame) | place | counts | {"seed": name, "value": value, "reason": reason}


def _deviation(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1))


def _averaged_rows(methods: Mapping[str, Sequence[Done]], planned: int, reference: str) -> Iterator[Row]:
    seeds = set.intersection(*({member.job.seed for member in members} for members in methods.values()))
    if len(seeds) < 2:
        return
    of_seeds = "" if len(seeds) == planned else f"{len(seeds)} of {planned} seeds"
    pooled = {}
    for method, members in methods.items():
        frame = _without_cost(members[0].frame) | {"seed": AVERAGED}
        scores = averaged([member.scores for member in members if member.job.seed in seeds])
        pooled[method] = (scores, {name: frame[name] for name in SYSTEM_COLUMNS})
        for row in scores.rows():
            yield frame | row | {"reason": "; ".join(filter(None, (row["reason"], of_seeds)))}
    if reference in pooled:
        first = next(iter(methods.values()))[0].frame
        place = {"task": first["task"], "seed": AVERAGED, "train_cases": first["train_cases"]}
        for row in paired_rows(pooled, reference):
            yield place | row | {"reason": "; ".join(filter(None, (row["reason"], of_seeds)))}


def _without_cost(frame: Row) -> Row:
    return {name: value for name, value in frame.items() if name not in COST_COLUMNS or name in _FIXED_COST}


_FIXED_COST = ("trainable_parameters", "total_parameters")
