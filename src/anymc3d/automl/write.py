"""All files of what is known: the blend as a plugin, tables, the page, the task of the winner."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from anymc3d.automl import answer, page
from anymc3d.automl.clinical import Clinical, head_logits
from anymc3d.automl.estimate import Scored
from anymc3d.automl.joined import Joined, join, trained_entry
from anymc3d.automl.leaderboard import BLEND, CLINICAL, Entry, Ranked, rank, write_leaderboard
from anymc3d.automl.lora import spread
from anymc3d.automl.work import Work
from anymc3d.data.cache import Cache
from anymc3d.files import atomic, home
from anymc3d.files.tables import write_table
from anymc3d.settings.task_file import write_task
from anymc3d.train.covariates.record import cells_of_cases


@dataclass(frozen=True, eq=False)
class Written:
    """What the plugin holds and what is known of it; ``scored``: the simplest first."""

    scored: Sequence[Scored]
    joined: Joined
    ranked: Sequence[Ranked]
    metrics: Sequence[answer.Row]
    covariates: dict[str, Any] | None = None
    doubts: tuple[str, ...] = ()


def write(work: Work, *, final: bool) -> dict[str, Any]:
    """Blend what there is and write every file."""
    return write_pages(work, write_plugin(work), final=final)


def write_plugin(work: Work) -> Written:
    """Blend what there is; the plugin, its members, and the tables of out-of-fold cases."""
    started = work.clock.spent_s
    scored, pool = work.in_order(), work.data.pool
    joined = join(scored, work.trained, pool, work.settings, clinical_of(work))
    weights = {index: weight for index, weight in joined.weights.items() if weight > 0}
    clinical = None if joined.clinical is None else (joined.clinical[1], joined.clinical[0].answers.alone)
    members = [
        answer.write_member(
            work.folder.members,
            f"{work.task.name}-{index}",
            scored[index].candidate,
            work.data.study,
            scored[index].out,
            clinical,
        )
        for index in weights
    ]
    shares = list(weights.values())
    if joined.trained_weight > 0:
        members += [
            answer.with_clinical(work.folder.members, f"{work.task.name}-lora-{number}", trained_fold.plugin, clinical)
            for number, trained_fold in enumerate(work.trained)
        ]
        shares += joined.trained_weights
    metrics = answer.nested_metrics(work.task, work.data, joined.logits)
    doubts = answer.write_plugin(work.folder, work.task, members, shares, work.data, joined.out, metrics)
    answer.write_out_of_fold(work.folder, work.task, work.data, joined.logits)
    ranked = rank(_entries(work, scored, joined, len(members)), pool, work.data.scale)
    write_leaderboard(work.folder.leaderboard, ranked)
    clinical_report = (
        None if joined.clinical is None else answer.clinical_report(work.task, work.data, joined.clinical[0].answers)
    )
    _write_task(work, scored, joined)
    work.reserve.wrote(work.measured(f"writing of {len(scored)}", work.clock.spent_s - started), len(scored))
    return Written(scored, joined, ranked, metrics, clinical_report, doubts)


def write_pages(work: Work, written: Written, *, final: bool) -> dict[str, Any]:
    """``metrics.csv``, ``auto.json`` and ``report.html``, with the test split where it is answered."""
    of_test = [] if work.test is None else work.test[1]
    write_table(work.folder.metrics, list(written.metrics[0]), [*written.metrics, *of_test])
    search = page.Search(
        task=work.task,
        data=work.data,
        settings=work.settings,
        **vars(written),
        notes=tuple(work.notes),
        spent_s=work.clock.spent_s,
        final=final,
        test=None if work.test is None else work.test[0],
        not_answered=sum(int(float(row["value"])) for row in of_test if row["metric"] == "failed_cases"),
        sites=work.sites,
    )
    summary = page.make_summary(search)
    atomic.write_json(work.folder.summary, summary)
    atomic.write_text(work.folder.report, page.make_page(search, summary))
    work.keep()
    return summary


def clinical_of(work: Work) -> Clinical | None:
    """The clinical columns of every case; measures of scans are kept in the cache."""
    if not work.data.covariates:
        return None
    task = replace(work.task, covariates=work.data.covariates)
    return Clinical(task, cells_of_cases(task, work.data.cases, cache=Cache(home.cache_folder())))


def _entries(work: Work, scored: Sequence[Scored], joined: Joined, members: int) -> list[Entry]:
    weights = joined.weights
    whole = Entry(
        candidate=BLEND,
        logits=joined.logits,
        members=members,
        seconds=work.clock.spent_s,
        trained_parameters=sum(scored[index].candidate.trained_parameters for index in weights),
    )
    entries = [whole]
    for index, candidate_scores in enumerate(scored):
        candidate = candidate_scores.candidate
        is_frozen = candidate.kind == "frozen"
        entries.append(
            Entry(
                candidate=candidate.name,
                logits=candidate_scores.out,
                features=candidate.task.features if is_frozen else candidate.name,
                fusion=candidate.task.fusion if is_frozen else "",
                views=candidate.views,
                size=candidate.size,
                seconds=candidate.seconds,
                trained_parameters=candidate.trained_parameters,
                weight=weights.get(index, 0.0),
            )
        )
    if joined.clinical is not None:
        estimated, labels = joined.clinical[0], work.data.labels
        entries.append(Entry(f"{BLEND}, image alone", joined.nested.logits, seconds=work.clock.spent_s))
        alone = head_logits(estimated.answers.alone, labels)
        entries.append(Entry(f"{CLINICAL}: {', '.join(work.data.covariates)}", alone))
    if work.trained:
        entries.append(trained_entry(work.trained, joined, work.training_s))
    return entries


def _write_task(work: Work, scored: Sequence[Scored], joined: Joined) -> None:
    """The task of the member that moves the answer most, for going on by hand."""
    labels = work.data.labels
    moves = {index: weight * spread(scored[index].out, labels) for index, weight in joined.weights.items()}
    first = max(moves, key=moves.__getitem__)
    task, name = scored[first].candidate.task, scored[first].candidate.name
    if joined.trained_out is not None and joined.trained_weight * spread(joined.trained_out, labels) > moves[first]:
        trained_fold = work.trained[0]
        task, name = replace(trained_fold.task, data=work.task.data), f"LoRA; {trained_fold.sight}"
    reason = f"the member of 'anymc3d auto' that counts most: {name}"
    takes = joined.member is not None and joined.member.record is not None
    task = replace(task, name=work.task.name, covariates=work.data.covariates if takes else ())
    write_task(work.folder.task, task, {"name": reason})
