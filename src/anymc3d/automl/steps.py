"""The steps that add candidates: plain methods, the first sight and an early answer, more sights while time lasts."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from anymc3d.automl.amount import Job, amount_that_fits
from anymc3d.automl.candidates import SIMPLEST
from anymc3d.automl.clock import in_words
from anymc3d.automl.deadline import OutOfTimeError
from anymc3d.automl.embedded import STATISTICS, Source, candidates_of, sights_of, statistics_candidate
from anymc3d.automl.reserve import MOST_FOR_TEST
from anymc3d.automl.sights import Sight, make_sights
from anymc3d.automl.work import Work
from anymc3d.automl.write import write
from anymc3d.data.case_scans import PreparedCase
from anymc3d.errors import ManifestError, UsageError
from anymc3d.models.plain import PLAIN
from anymc3d.models.store import stored_records
from anymc3d.plan.rules import patch_size_of
from anymc3d.settings.config import TaskSettings
from anymc3d.train.quick.embedded import NOTE

logger = logging.getLogger(__name__)

CANDIDATES_OF_A_SIGHT = 7
NO_SCANS = (
    "no scan is read: the doctor saw the table alone (not scans in two splits, nor damaged or turned ones), and left "
    "out are all plain methods but scan-statistics, regions and sizes that were not embedded, and training with LoRA"
)
FIRST_ANSWER = 0.2
"""Of the budget, after which there is an answer."""


def first_candidates(work: Work, backbone: str) -> None:
    """Plain methods and the cheapest sight; then there is an answer."""
    sight = _sights(work, backbone)[0]
    count = len(work.data.cases)
    begins = not work.remembered.decided
    measured = work.reader.seconds_per_case(sight)
    read_s = measured.read
    if begins and read_s * count > 0.8 * work.clock.left_s:  # nobody is turned away for three slow scans
        read_s = min(read_s, work.reader.seconds_to_read(sight))
    read_s, passed = work.measured("reading", read_s), work.measured("pass", measured.passed)
    if begins and read_s * count > 0.8 * work.clock.left_s:
        needed = (read_s * count / 0.8 + work.clock.spent_s) / 60
        work.folder.forget()
        raise UsageError(
            f"--minutes {work.settings.minutes:g} is too small for one candidate: reading {count} scans alone takes "
            f"about {in_words(read_s * count)} here; give at least --minutes {int(needed) + 1}"
        )
    work.paces["read"].measured(read_s, len(sight.views))
    work.paces["pass"].measured(passed, work.tokens(sight))
    work.paces["answer read"].measured(work.measured("answer, reading", measured.answer), len(sight.views))
    work.paces["answer pass"].measured(work.measured("answer, pass", measured.answer_pass), work.tokens(sight))
    _plan_test(work, sight)
    _say_plan(work, read_s * count, passed * count, sight)
    prepared = work.reader.prepare(sight.task, masks=False)
    for method in SIMPLEST:
        started = work.clock.spent_s
        _plain(work, method, sight.task, prepared)
        _answer_in_time(work, work.clock.spent_s - started)
    _answer_in_time(work, passed * count)
    goes = not work.scored or passed * count < work.left_s(work.settings.train_share, work.answer_s(sight))
    if work.decide(_step(sight), goes):
        _look(work, sight, _step(sight))
    else:
        work.note(f"{sight.name}: left out, would take about {in_words(passed * count)}")
    if not work.scored:
        raise ManifestError("anymc3d auto", ["no candidate could be computed", *work.notes])
    _first_answer(work)


def _answer_in_time(work: Work, next_s: float) -> None:
    """An answer of what there is, if there is none yet and the next step would end after its share of the time."""
    if not work.answered and work.clock.spent_s + next_s > FIRST_ANSWER * work.clock.total_s:
        _first_answer(work)


def _first_answer(work: Work) -> None:
    if len(work.scored) == work.answered:
        return
    write(work, final=False)
    what = "the answer so far" if work.answered else "a first answer"
    work.answered = len(work.scored)
    spent, total = in_words(work.clock.spent_s), in_words(work.clock.total_s)
    logger.info("%s is in %s after %s of %s", what, work.folder.path, spent, total)


def _step(sight: Sight) -> str:
    return f"sight: {sight.name}"


def _plan_test(work: Work, sight: Sight) -> None:
    """Keep the time free that the test split will take, or say at once that it is answered only if some is left."""
    if not work.data.test:
        return
    work.reserve.read_s = work.paces["answer read"].of(len(sight.views))
    work.reserve.cases = len(work.data.test)
    needed = work.reserve.test_s(work.answer_s(sight))
    if not work.decide("test split", needed < MOST_FOR_TEST * work.clock.left_s):
        work.reserve.cases = 0
        text = "test split: no time is kept free for its %d cases (about %s); answered at the end if enough is left"
        logger.info(text, len(work.data.test), in_words(needed))


def without_test(work: Work, why: str) -> str:
    """That the test split is not answered, and how it is by hand."""
    return (
        f"test split: left out, {why}; "
        f"'anymc3d predict -p {work.folder.plugin} -i {work.data.manifest.path} --split test -o {work.folder.test}' "
        f"answers them, 'anymc3d evaluate {work.folder.test}/predictions.csv {work.data.manifest.path} "
        f"-o {work.folder.test}/evaluation' scores them"
    )


def _say_plan(work: Work, read_s: float, pass_s: float, sight: Sight) -> None:
    settings, total = work.settings, work.clock.total_s
    test = work.reserve.test_s(work.answer_s(sight))
    logger.info(
        "plan for %s: reading about %s; the first frozen candidates (%s) about %s; further ones until %s; %s; kept "
        "free for the files and the test split (%d cases) about %s or more; done by %s",
        in_words(total),
        in_words(read_s),
        sight.name,
        in_words(pass_s),
        in_words(settings.frozen_share * total),
        f"training until {in_words(settings.train_share * total)}" if settings.train else "no training",
        work.reserve.cases,
        in_words(test + work.reserve.writing_s),
        in_words(total),
    )


def _plain(work: Work, method: str, task: TaskSettings, prepared: Sequence[PreparedCase]) -> None:
    if PLAIN[method].needs_mask and (lacking := work.data.without_mask):
        of = len(work.data.cases) + len(work.data.test)
        some = "" if lacking == of else f"; {lacking} of {of} cases lack one: give it, or take them out"
        work.note(f"{method}: left out, it needs a mask of every scan{some}")
        return
    each = work.measured(f"measuring, {method}", work.reader.seconds_to_measure(method, work.task, prepared))
    needed = each * len(work.data.cases)
    if not work.decide(f"plain: {method}", needed < 0.25 * work.left_s(1.0, each)):
        work.note(f"{method}: left out, measuring would take about {in_words(needed)}")
        return
    try:
        with work.reader.stop.within(work.ends_by(work.settings.train_share, each)):
            candidate = work.reader.plain(method, work.task, prepared)
    except ManifestError as error:
        work.note(f"{method}: left out, {error.problems[0] if error.problems else error}")
        return
    except OutOfTimeError:
        work.remembered.decided[f"plain: {method}"] = False
        work.note(f"{method}: given up, it took longer than its share of the time")
        return
    work.reserve.members[method] = each
    work.score([candidate])


def _sights(work: Work, backbone: str) -> list[Sight]:
    others = {
        record.name: patch_size_of(record.name)
        for record in stored_records()
        if record.name != backbone and record.fingerprint != work.reader.backbone(backbone).fingerprint
    }
    return make_sights(work.planned, work.reader.backbone(backbone).module.patch_size, others)


def embedded_candidates(work: Work, sources: Sequence[Source]) -> None:
    """Candidates of folders of embeddings in place of scans, as long as the time lasts."""
    knows = next((source for source in sources if source.cases.know_their_scans), None)
    work.note(NO_SCANS)
    if knows is None:
        work.note(f"{STATISTICS}: left out. {NOTE[0].upper()}{NOTE[1:]}")
    else:
        try:
            work.score([statistics_candidate(knows, work.data)])
        except ManifestError as error:
            work.note(f"{STATISTICS}: left out, {error.problems[0]}")
    took = 0.0
    for shown in sights_of(sources, work.data):
        sight = shown.sight
        if not work.decide(_step(sight), took < work.left_s(work.settings.train_share)):
            work.note(f"{sight.name}: left out, would take about {in_words(took)}")
            continue
        started, known = work.clock.spent_s, {candidate_scores.candidate.name for candidate_scores in work.scored}
        work.score([candidate for candidate in candidates_of(shown, work.data) if candidate.name not in known])
        took = work.measured(sight.name, work.clock.spent_s - started)
        _say_best(work)


def further_candidates(work: Work, backbone: str) -> None:
    """More sights, from cheap to expensive, until their share of the time is used."""
    share = _share_of_sights(work, backbone)
    for sight in _sights(work, backbone)[1:]:
        _look_in_time(work, sight, share, _step(sight))


def late_candidates(work: Work, backbone: str) -> None:
    """Sights that were left out to keep time for a training that has ended, as far as it left some."""
    seen = {scored.candidate.name.partition("; ")[2] for scored in work.scored}
    for sight in _sights(work, backbone)[1:]:
        if sight.name not in seen and f"left out: {sight.name}" in work.remembered.decided:
            _look_in_time(work, sight, work.settings.train_share, f"{_step(sight)}, after training")


def _look_in_time(work: Work, sight: Sight, share: float, step: str) -> None:
    draw_s = _seconds_to_draw(work, sight)
    seconds = draw_s + work.paces["read"].of(len(sight.views)) + work.paces["pass"].of(work.tokens(sight))
    needed = seconds * len(work.data.cases) + CANDIDATES_OF_A_SIGHT * work.fits.of(1)
    if work.decide(step, needed < work.left_s(share, work.answer_s(sight) + draw_s)):
        work.notes = [note for note in work.notes if not note.startswith(f"{sight.name}: left out")]
        _look(work, sight, step, draw_s)
        _say_best(work)
    else:
        work.remembered.decided[f"left out: {sight.name}"] = True
        work.note(f"{sight.name}: left out, would take about {in_words(needed)}")


def _seconds_to_draw(work: Work, sight: Sight) -> float:
    """Of the region of a case that no earlier sight had drawn."""
    if not sight.is_drawn or work.regions_are_drawn:
        return 0.0
    what = "drawing a region"
    known = f"seconds: {what}" in work.remembered.decided
    return work.measured(what, 0.0 if known else work.reader.seconds_to_draw(sight))


def _share_of_sights(work: Work, backbone: str) -> float:
    """Of the budget: training has its part only where it would fit."""
    settings, data = work.settings, work.data
    first = _sights(work, backbone)[0]
    job = Job(
        seconds=(settings.train_share - settings.frozen_share) * work.clock.total_s,
        pass_s=work.measured(f"training pass, {first.name}", work.reader.training_pass_s(first.task)),
        answer_s=work.answer_s(first),
        cases=len(data.cases),
        folds=len(data.pool.fold_names),
        depth=len(work.reader.backbone(backbone).module.block_paths) or 1,
    )
    return settings.frozen_share if settings.train and amount_that_fits(job) else settings.train_share


def _look(work: Work, sight: Sight, step: str, draw_s: float = 0.0) -> None:
    """The candidates of a sight; one that outlasts its time, or cannot be read, is left out. ``draw_s``: of the seconds
    of a case those that drawing its region takes, now and of a test case."""
    started = work.clock.spent_s
    try:
        with work.reader.stop.within(work.ends_by(work.settings.train_share, work.answer_s(sight))):
            candidates = list(work.reader.frozen(sight))
    except ManifestError as error:
        work.note(f"{sight.name}: left out, {error.problems[0] if error.problems else error}")
        return
    except OutOfTimeError:
        work.remembered.decided[step] = False
        work.note(f"{sight.name}: given up, it took longer than its share of the time")
        return
    if draw_s:
        work.regions_are_drawn = True
        work.reserve.read_s += draw_s
    took = max(0.0, (work.clock.spent_s - started) / len(work.data.cases) - draw_s)
    first = work.measured(sight.name, took)
    work.reserve.members[sight.name] = work.answer_s(sight)
    work.paces["pass"].measured(max(0.5 * first, first - work.paces["read"].of(len(sight.views))), work.tokens(sight))
    work.score(candidates)


def _say_best(work: Work) -> None:
    values = [(work.data.pool.auroc(scored.out).value or 0.0, scored.candidate.name) for scored in work.scored]
    value, name = max(values)
    logger.info(
        "%d candidates, best so far %s: out-of-fold %s %.3f; %s spent, %s left",
        *(len(values), name, work.data.pool.metric, value, in_words(work.clock.spent_s), in_words(work.clock.left_s)),
    )
