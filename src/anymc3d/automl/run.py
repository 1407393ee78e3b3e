"""``auto``: a manifest in, the best ensemble that fits the time out.

The order of work is the order of :func:`auto`: cases, doctor, plan, simple candidates and a first answer, further
candidates as long as the time lasts, training of the best, blend, test split, files.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from anymc3d.automl import answer, page
from anymc3d.automl.candidates import SIMPLEST, Candidate, simplest_first
from anymc3d.automl.checks import check_examined
from anymc3d.automl.clock import Clock, Pace, in_words
from anymc3d.automl.compare import Value
from anymc3d.automl.data import AutoData, plan_all, read_data
from anymc3d.automl.deadline import Deadline, OutOfTimeError
from anymc3d.automl.estimate import Estimate, Scored, deployed, estimate, score
from anymc3d.automl.folder import KIND, AutoFolder, Remembered
from anymc3d.automl.leaderboard import BLEND, Entry, rank, write_leaderboard
from anymc3d.automl.numbers import Reader
from anymc3d.automl.scoring import score_test
from anymc3d.automl.settings import AutoSettings
from anymc3d.automl.sights import Sight, make_sights
from anymc3d.automl.sites import leave_sites_out
from anymc3d.cost.device import choose_device
from anymc3d.data.preprocess import CODE_VERSION
from anymc3d.doctor.examine import examine
from anymc3d.errors import ManifestError, UsageError
from anymc3d.files import atomic
from anymc3d.files.folders import claim, locked
from anymc3d.models.plain import PLAIN
from anymc3d.models.store import stored_records
from anymc3d.plan.rules import patch_size_of
from anymc3d.settings.config import TaskSettings
from anymc3d.settings.task_file import write_task
from anymc3d.train.stopping import listening

logger = logging.getLogger(__name__)

BEAT_S = 5.0
CANDIDATES_OF_A_SIGHT = 7
FIRST_ANSWER = 0.2
SITES_SHARE = 0.93
"""Of the budget, after which there is an answer."""


@dataclass(eq=False)
class Work:
    """What a run knows so far."""

    folder: AutoFolder
    settings: AutoSettings
    clock: Clock
    remembered: Remembered
    data: AutoData
    reader: Reader
    planned: dict[tuple[str, str], TaskSettings]
    scored: list[Scored] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    fits: Pace = field(default_factory=Pace)
    sites: dict[str, Any] | None = None
    test: tuple[Value, list[Mapping[str, Any]]] | None = None
    paces: dict[str, Pace] = field(default_factory=lambda: {"read": Pace(), "pass": Pace()})

    @property
    def task(self) -> TaskSettings:
        """As planned without further wishes."""
        return self.planned["own", "whole"]

    def tokens(self, sight: Sight) -> float:
        """What a pass of the backbone over one case of a sight costs, in patches, as the main one would."""
        return sight.tokens(self.reader.backbone(sight.task.backbone.name).module.patch_size)

    def keep(self, *, finished: bool = False) -> None:
        """Remember the seconds and decisions."""
        self.remembered.write(self.clock.spent_s, finished=finished)

    def beat(self) -> None:
        """Remember the seconds now and then, so that those before a kill count."""
        if self.clock.spent_s - self.remembered.spent_s > BEAT_S:
            self.keep()

    def decide(self, what: str, goes: bool) -> bool:
        """Whether a step is made: as an earlier run of the same command decided, otherwise ``goes``."""
        found = bool(self.remembered.decided.setdefault(what, goes))
        self.keep()
        return found

    def note(self, text: str) -> None:
        """Say a thing once, on the terminal and in the report."""
        if text not in self.notes:
            self.notes.append(text)
            logger.info("%s", text)


def auto(
    manifest: Path | str,
    labels: Sequence[str] | str,
    out: Path | str,
    *,
    minutes: float = 30.0,
    backbone: str = "dinov2-small",
    device: str = "auto",
    leave_out: str | None = None,
    settings: AutoSettings | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Find the best classifier of ``manifest`` within ``minutes`` and leave it in ``out``; return ``auto.json``.

    The same call goes on where it was stopped, or finds that all is done. Cases of the ``test`` split are scored once,
    at the end.

    Args:
        manifest: CSV or MedMNIST ``.npz``.
        labels: one label column, or several of 0/1.
        out: folder; made if need be.
        minutes: the whole budget.
        backbone: name, folder or file.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        leave_out: the column whose values are left out one by one; default ``site``, where there is one.
        settings: everything else.
        quiet: no progress bars.

    Raises:
        AnyMC3DError: manifest, labels, scans, backbone or folder cannot be used, or the budget is too small.
        InterruptedRunError: a stop was asked for; what is computed is kept.
    """
    settings = replace(settings or AutoSettings(), minutes=minutes)
    columns = tuple(labels.split(",")) if isinstance(labels, str) else tuple(labels)
    folder = AutoFolder(Path(out))
    data = read_data(Path(manifest), columns, settings, leave_out)
    with locked(folder.path), listening() as stop:
        claim(folder.record, _identity(data, settings, backbone), "an anymc3d auto run")
        remembered = Remembered.read(folder.progress)
        if remembered.finished:
            logger.info("%s is finished; nothing to do", folder.path)
            return page.read_summary(folder)
        clock = Clock(60 * settings.minutes, remembered.spent_s)
        stopper = Deadline(stop, clock)
        work = Work(folder, settings, clock, remembered, data, Reader(data, choose_device(device), stopper, quiet), {})
        stopper.beat = work.beat
        work.notes += _examined(data, columns)
        work.planned = plan_all(data, backbone)
        _first(work, backbone)
        _further(work, backbone)
        summary = _finish(work, device)
        work.keep(finished=True)
    return summary


def _identity(data: AutoData, settings: AutoSettings, backbone: str) -> dict[str, Any]:
    cases = "\n".join(
        f"{case.id}|{case.patient}|{case.split}|{case.fold}|{row.tolist() if case.split != 'test' else ''}"
        for case, row in zip(data.manifest.cases, data.targets, strict=True)
    )
    return {
        "kind": KIND,
        "labels": list(data.labels.columns),
        "settings": asdict(settings),
        "backbone": Path(backbone).name,
        "cases": hashlib.sha256(cases.encode()).hexdigest(),
        "leave_out": data.site,
        "preprocessing_version": CODE_VERSION,
    }


def _examined(data: AutoData, columns: Sequence[str]) -> list[str]:
    """What the doctor warns of; its errors end the run."""
    found = check_examined(examine(data.manifest.path, labels=columns))
    for line in found:
        logger.warning("%s", line)
    return found


def _first(work: Work, backbone: str) -> None:
    """Plain methods and the cheapest sight; then there is an answer."""
    sight = _sights(work, backbone)[0]
    read, passed = work.reader.seconds_per_case(sight)
    count, total = len(work.data.cases), work.clock.total_s
    if not work.remembered.decided and read * count > 0.8 * work.clock.left_s:
        needed = (read * count / 0.8 + work.clock.spent_s) / 60
        raise UsageError(
            f"--minutes {work.settings.minutes:g} is too small for one candidate: reading {count} scans alone takes "
            f"about {in_words(read * count)} here; give at least --minutes {int(needed) + 1}"
        )
    _say_plan(work, read * count, passed * count, sight)
    work.paces["read"].measured(read, len(sight.views))
    work.paces["pass"].measured(passed, work.tokens(sight))
    prepared = work.reader.prepare(sight.task, masks=False)
    for method in SIMPLEST:
        _plain(work, method, sight.task, prepared)
    if work.scored and work.clock.spent_s + passed * count > FIRST_ANSWER * total:
        _first_answer(work)
    goes = not work.scored or passed * count < work.clock.until(work.settings.frozen_share)
    if work.decide(_step(sight), goes):
        _look(work, sight)
    if not work.scored:
        raise ManifestError("anymc3d auto", ["no candidate could be computed", *work.notes])
    _first_answer(work)


def _first_answer(work: Work) -> None:
    _write(work, final=False)
    spent, total = in_words(work.clock.spent_s), in_words(work.clock.total_s)
    logger.info("a first answer is in %s after %s of %s", work.folder.path, spent, total)


def _step(sight: Sight) -> str:
    return f"sight: {sight.name}"


def _say_plan(work: Work, read_s: float, pass_s: float, sight: Sight) -> None:
    settings, total = work.settings, work.clock.total_s
    logger.info(
        "plan for %s: reading about %s; the first frozen candidates (%s) about %s; further ones until %s; %s; scoring "
        "and files by %s",
        in_words(total),
        in_words(read_s),
        sight.name,
        in_words(pass_s),
        in_words(settings.frozen_share * total),
        f"training until {in_words(settings.train_share * total)}" if settings.train else "no training",
        in_words(total),
    )


def _plain(work: Work, method: str, task: TaskSettings, prepared: Sequence[Any]) -> None:
    if PLAIN[method].needs_mask and not all(case.mask(c) for case in work.data.cases for c in case.images):
        work.note(f"{method}: left out, not every scan has a mask")
        return
    needed = work.reader.seconds_to_measure(method, work.task, prepared) * len(work.data.cases)
    if not work.decide(f"plain: {method}", needed < 0.25 * work.clock.left_s):
        work.note(f"{method}: left out, measuring would take about {in_words(needed)}")
        return
    try:
        with work.reader.stop.within(work.settings.train_share * work.clock.total_s):
            found = work.reader.plain(method, work.task, prepared)
    except ManifestError as error:
        work.note(f"{method}: left out, {error.problems[0] if error.problems else error}")
        return
    except OutOfTimeError:
        work.remembered.decided[f"plain: {method}"] = False
        work.note(f"{method}: given up, it took longer than its share of the time")
        return
    _score(work, [found])


def _sights(work: Work, backbone: str) -> list[Sight]:
    others = {
        record.name: patch_size_of(record.name)
        for record in stored_records()
        if record.name != backbone and record.fingerprint != work.reader.backbone(backbone).fingerprint
    }
    return make_sights(work.planned, work.reader.backbone(backbone).module.patch_size, others)


def _further(work: Work, backbone: str) -> None:
    """More sights, from cheap to expensive, until their share of the time is used."""
    share = work.settings.frozen_share if work.settings.train else work.settings.train_share
    for sight in _sights(work, backbone)[1:]:
        cases = len(work.data.cases) + len(work.data.test)
        seconds = work.paces["read"].of(len(sight.views)) + work.paces["pass"].of(work.tokens(sight))
        needed = seconds * cases + CANDIDATES_OF_A_SIGHT * work.fits.of(1)
        if not work.decide(_step(sight), needed < work.clock.until(share)):
            work.note(f"{sight.name}: left out, would take about {in_words(needed)}")
            continue
        _look(work, sight)
        _say_best(work)


def _look(work: Work, sight: Sight) -> None:
    """The candidates of a sight; one that outlasts its time, or cannot be read, is left out."""
    started = work.clock.spent_s
    try:
        with work.reader.stop.within(work.settings.train_share * work.clock.total_s):
            found = list(work.reader.frozen(sight))
    except ManifestError as error:
        work.note(f"{sight.name}: left out, {error.problems[0] if error.problems else error}")
        return
    except OutOfTimeError:
        work.remembered.decided[_step(sight)] = False
        work.note(f"{sight.name}: given up, it took longer than its share of the time")
        return
    took = (work.clock.spent_s - started) / len(work.data.cases)
    first = work.remembered.decided.setdefault(f"seconds: {sight.name}", took)
    work.paces["pass"].measured(max(0.5 * first, first - work.paces["read"].of(len(sight.views))), work.tokens(sight))
    _score(work, found)


def _score(work: Work, candidates: Sequence[Candidate]) -> None:
    for candidate in candidates:
        started = work.clock.spent_s
        found = score(candidate, work.data.pool)
        took = work.clock.spent_s - started
        candidate.seconds += took
        work.fits.measured(took, 1)
        work.scored.append(found)
    work.keep()


def _ordered(work: Work) -> list[Scored]:
    order = {id(one): index for index, one in enumerate(simplest_first([s.candidate for s in work.scored]))}
    return sorted(work.scored, key=lambda one: order[id(one.candidate)])


def _say_best(work: Work) -> None:
    values = [(work.data.pool.auroc(one.out).value or 0.0, one.candidate.name) for one in work.scored]
    value, name = max(values)
    logger.info(
        "%d candidates, best so far %s: out-of-fold AUROC %.3f; %s spent, %s left",
        *(len(values), name, value, in_words(work.clock.spent_s), in_words(work.clock.left_s)),
    )


def _write(work: Work, *, final: bool) -> dict[str, Any]:
    """Blend what there is and write every file."""
    scored, pool, settings = _ordered(work), work.data.pool, work.settings
    nested = estimate(scored, pool, settings)
    blend = deployed(scored, pool, settings)
    out = blend.logits([one.out for one in scored])
    total = sum(blend.weights.values())
    members = [
        answer.write_member(
            work.folder.members,
            f"{work.task.name}-{index}",
            scored[index].candidate,
            work.data.study,
            scored[index].out,
        )
        for index in blend.weights
    ]
    shares = [weight / total for weight in blend.weights.values()]
    answer.write_plugin(work.folder, work.task, members, shares, pool, out)
    answer.write_out_of_fold(work.folder, work.task, pool, [case.id for case in work.data.cases], nested.logits)
    of_test = [] if work.test is None else work.test[1]
    metrics = answer.nested_metrics(work.folder, work.task, pool, nested.logits, of_test)
    ranked = rank(_entries(work, scored, nested, blend.weights), pool)
    write_leaderboard(work.folder.leaderboard, ranked)
    _write_task(work, scored, blend.weights)
    found = page.Found(
        task=work.task,
        data=work.data,
        settings=settings,
        scored=scored,
        nested=nested,
        weights={index: weight / total for index, weight in blend.weights.items()},
        ranked=ranked,
        metrics=metrics,
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


def _entries(work: Work, scored: Sequence[Scored], nested: Estimate, weights: dict[int, float]) -> list[Entry]:
    total = sum(weights.values())
    whole = Entry(
        candidate=BLEND,
        logits=nested.logits,
        members=len(weights),
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
                weight=weights.get(index, 0.0) / total,
            )
        )
    return entries


def _write_task(work: Work, scored: Sequence[Scored], weights: dict[int, float]) -> None:
    """The task of the member that counts most, for going on by hand."""
    first = max(weights, key=weights.__getitem__)
    task = replace(scored[first].candidate.task, name=work.task.name)
    write_task(
        work.folder.task,
        task,
        {"name": f"the member of 'anymc3d auto' that counts most: {scored[first].candidate.name}"},
    )


def _finish(work: Work, device: str) -> dict[str, Any]:
    """Sites, the last blend, and the test split by the plugin that came of it."""
    by_site = work.data.by_site()
    if by_site is not None:
        candidates = [one.candidate for one in _ordered(work)]
        needed = len(candidates) * len(by_site.fold_names) * work.fits.of(1) / 6
        if work.decide("sites", needed < work.clock.until(SITES_SHARE)):
            work.sites = leave_sites_out(candidates, by_site, work.settings)
        else:
            work.note(f"leave one {work.data.site} out: left out, would take about {in_words(needed)}")
    _write(work, final=False)
    if work.data.test:
        work.test = score_test(work.folder, work.data, device, quiet=work.reader.quiet)
    return _write(work, final=True)
