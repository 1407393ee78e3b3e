"""All files of what is known: the blend as a plugin, tables, the page, the task of the winner."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from anymc3d.automl import answer, page
from anymc3d.automl.estimate import Scored
from anymc3d.automl.joined import Joined, join, trained_entry
from anymc3d.automl.leaderboard import BLEND, Entry, Ranked, rank, write_leaderboard
from anymc3d.automl.work import Work
from anymc3d.files import atomic
from anymc3d.files.tables import write_table
from anymc3d.settings.task_file import write_task


@dataclass(frozen=True, eq=False)
class Written:
    """What the plugin holds and what is known of it; ``scored``: the simplest first."""

    scored: Sequence[Scored]
    joined: Joined
    ranked: Sequence[Ranked]
    metrics: Sequence[answer.Row]


def write(work: Work, *, final: bool) -> dict[str, Any]:
    """Blend what there is and write every file."""
    return write_pages(work, write_plugin(work), final=final)


def write_plugin(work: Work) -> Written:
    """Blend what there is; the plugin, its members, and the tables of out-of-fold cases."""
    started = work.clock.spent_s
    scored, pool = work.in_order(), work.data.pool
    joined = join(scored, work.trained, pool, work.settings)
    nested, weights = joined.nested, {index: weight for index, weight in joined.weights.items() if weight > 0}
    members = [
        answer.write_member(
            work.folder.members,
            f"{work.task.name}-{index}",
            scored[index].candidate,
            work.data.study,
            scored[index].out,
        )
        for index in weights
    ]
    shares = list(weights.values())
    if joined.trained_weight > 0:
        members += [one.plugin for one in work.trained]
        shares += [joined.trained_weight / len(work.trained)] * len(work.trained)
    answer.write_plugin(work.folder, work.task, members, shares, pool, joined.out)
    answer.write_out_of_fold(work.folder, work.task, pool, [case.id for case in work.data.cases], nested.logits)
    metrics = answer.nested_metrics(work.task, pool, nested.logits)
    ranked = rank(_entries(work, scored, joined, len(members)), pool)
    write_leaderboard(work.folder.leaderboard, ranked)
    _write_task(work, scored, joined)
    work.reserve.wrote(work.measured(f"writing of {len(scored)}", work.clock.spent_s - started), len(scored))
    return Written(scored, joined, ranked, metrics)


def write_pages(work: Work, written: Written, *, final: bool) -> dict[str, Any]:
    """``metrics.csv``, ``auto.json`` and ``report.html``, with the test split where it is answered."""
    of_test = [] if work.test is None else work.test[1]
    write_table(work.folder.metrics, list(written.metrics[0]), [*written.metrics, *of_test])
    found = page.Found(
        task=work.task,
        data=work.data,
        settings=work.settings,
        **vars(written),
        notes=tuple(work.notes),
        spent_s=work.clock.spent_s,
        final=final,
        test=None if work.test is None else work.test[0],
        sites=work.sites,
    )
    summary = page.make_summary(found)
    atomic.write_json(work.folder.summary, summary)
    atomic.write_text(work.folder.report, page.make_page(found, summary))
    work.keep()
    return summary


def _entries(work: Work, scored: Sequence[Scored], joined: Joined, members: int) -> list[Entry]:
    weights = joined.weights
    whole = Entry(
        candidate=BLEND,
        logits=joined.nested.logits,
        members=members,
        seconds=work.clock.spent_s,
        trained_parameters=sum(scored[index].candidate.trained_parameters for index in weights),
    )
    entries = [whole]
    for index, one in enumerate(scored):
        candidate = one.candidate
        is_frozen = candidate.kind == "frozen"
        entries.append(
            Entry(
                candidate=candidate.name,
                logits=one.out,
                features=candidate.task.features if is_frozen else candidate.name,
                fusion=candidate.task.fusion if is_frozen else "",
                views=candidate.views,
                size=candidate.size,
                seconds=candidate.seconds,
                trained_parameters=candidate.trained_parameters,
                weight=weights.get(index, 0.0),
            )
        )
    if work.trained:
        entries.append(trained_entry(work.trained, joined, work.training_s))
    return entries


def _write_task(work: Work, scored: Sequence[Scored], joined: Joined) -> None:
    """The task of the member that counts most, for going on by hand."""
    first = max(joined.weights, key=joined.weights.__getitem__)
    task, name = scored[first].candidate.task, scored[first].candidate.name
    if work.trained and joined.trained_weight > joined.weights[first]:
        own = work.trained[0]
        task, name = replace(own.task, data=work.task.data), f"LoRA; {own.sight}"
    reason = f"the member of 'anymc3d auto' that counts most: {name}"
    write_task(work.folder.task, replace(task, name=work.task.name), {"name": reason})
