"""``auto.json`` and ``report.html``: what won, how much it can be trusted, what was tried, where the time went."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from anymc3d.automl.candidates import Candidate
from anymc3d.automl.clinical import CHOICES
from anymc3d.automl.clock import in_words
from anymc3d.automl.compare import NUMBERS, Value, auroc_of
from anymc3d.automl.data import AutoData
from anymc3d.automl.estimate import Scored
from anymc3d.automl.folder import AutoFolder
from anymc3d.automl.joined import Joined
from anymc3d.automl.leaderboard import BLEND, Entry, Ranked
from anymc3d.automl.settings import AutoSettings
from anymc3d.models.features import representation
from anymc3d.models.plain import PLAIN
from anymc3d.page.document import RESEARCH_ONLY, document, listing, paragraph, section, table, tiles
from anymc3d.printable import escape
from anymc3d.settings.config import TaskSettings
from anymc3d.version import __version__

GENERATOR = "anymc3d auto"
SHOWN = 40
"""Candidates on the page; the table has all."""
SHOWN_METRICS = ("auroc", "average_precision", "brier", *NUMBERS, "r2", "rmse")
NAMES = {"mae": "MAE", "pearson": "Pearson", "spearman": "Spearman"}
WORDS = {"covariates": "the columns alone", "image": "the image alone", "both": "both"}


@dataclass(frozen=True, eq=False)
class Found:
    """Everything that is said; ``test`` and ``sites``: where there are any."""

    task: TaskSettings
    data: AutoData
    settings: AutoSettings
    scored: Sequence[Scored]
    joined: Joined
    ranked: Sequence[Ranked]
    metrics: Sequence[Mapping[str, Any]]
    notes: tuple[str, ...]
    spent_s: float
    final: bool
    test: Value | None = None
    sites: Mapping[str, Any] | None = None
    covariates: Mapping[str, Any] | None = None

    @property
    def metric(self) -> str:
        """What candidates are ranked by: AUROC, of a number R²."""
        return self.data.pool.metric

    @property
    def estimate(self) -> Value:
        """The nested estimate of all that was chosen."""
        return auroc_of(self.data.pool, self.joined.logits)

    @property
    def trained(self) -> Entry | None:
        """The row of the members that were trained, if they are in the plugin."""
        rows = [one.entry for one in self.ranked if one.entry.lora]
        return rows[0] if rows and rows[0].weight else None

    def members(self) -> list[tuple[str, str, str, str, int, float]]:
        """Name, kind, views, size, trained parameters and share of the logit of every member, the largest first."""
        found = []
        for index, weight in self.joined.weights.items():
            one = self.scored[index].candidate
            found.append((one.name, one.kind, one.views, one.size, one.trained_parameters, weight))
        row = self.trained
        if row is not None:
            name = f"{row.candidate} ({row.members} plugins, one per fold)"
            found.append((name, "LoRA", row.views, row.size, row.trained_parameters, float(row.weight or 0)))
        return sorted(found, key=lambda one: -one[-1])


def read_summary(folder: AutoFolder) -> dict[str, Any]:
    """``auto.json`` of a finished run."""
    return json.loads(folder.summary.read_text(encoding="utf-8"))


def make_summary(found: Found) -> dict[str, Any]:
    """``auto.json``; no id or path is in it."""
    pool = found.data.pool
    names = [one.candidate.name for one in found.scored]
    return {
        "format": 1,
        "task": found.task.name,
        "labels": list(found.data.labels.output_names),
        "finished": found.final,
        "verdict": verdict(found),
        "metric": found.metric,
        "r2" if found.data.labels.is_number else "auroc": _named(found),
        "numbers": {name: asdict(value) for name, value in _blend_row(found).numbers.items()},
        "covariates": None
        if found.covariates is None or found.joined.clinical is None
        else {
            **found.covariates,
            "chosen": found.joined.clinical[1].chosen,
            "chosen_per_fold": dict(zip(pool.fold_names, found.joined.clinical[0].chosen, strict=True)),
        },
        "test": None if found.test is None else asdict(found.test),
        "sites": found.sites,
        "cases": {
            "pool": len(pool),
            "patients": len(set(pool.patients)),
            "test": len(found.data.test),
            "folds": len(pool.fold_names),
        },
        "members": [{"candidate": one[0], "weight": one[-1]} for one in found.members()],
        "trained": None
        if found.joined.trained_out is None
        else {"weight": found.joined.trained_weight, "joined_in_folds": found.joined.joined_folds},
        "chosen_per_fold": {
            fold: [names[index] for index in blend.weights]
            for fold, blend in zip(pool.fold_names, found.joined.nested.chosen, strict=True)
        },
        "candidates": len(found.scored),
        "settings": asdict(found.settings),
        "seconds": round(found.spent_s, 1),
        "notes": list(found.notes),
    }


def _blend_row(found: Found) -> Ranked:
    return next(one for one in found.ranked if one.entry.candidate == BLEND)


def _named(found: Found) -> dict[str, Any]:
    labels = found.data.labels
    of = "mean over labels" if labels.kind in ("multiclass", "ordinal", "multilabel") else labels.columns[0]
    return {"of": of} | asdict(found.estimate)


def verdict(found: Found) -> str:
    """The first line of the report: what won, and by how much."""
    members = found.members()
    number = f"out-of-fold {found.metric} {_shown(found.estimate)}"
    member, names = found.joined.member, ", ".join(found.data.covariates)
    if member is not None and member.chosen == "covariates":
        return f"The clinical columns win: {names}, alone, {number}; beside them the image adds nothing that shows."
    if member is not None:
        number = f"with {names} {number}" if member.chosen == "both" else f"{number}, {names} add nothing that shows"
    plain = [one for one in members if one[1] == "plain"]
    if len(plain) == len(members):
        return f"The simple method wins: {' and '.join(one[0] for one in plain)}, without a network, {number}."
    best = next(one for one in found.ranked if one.entry.weight is not None)
    simple = next((one for one in found.ranked if one.entry.candidate in _plain_names(found)), None)
    told = f"; best simple method alone ({simple.entry.candidate}) {_shown(simple.auroc)}" if simple else ""
    blend = found.estimate.value
    if simple and (simple.auroc.value or 0.0) >= (blend or 0.0) > 0:
        told += ", which is no lower than the blend (but was picked as the best of several)"
    what = f"A blend of {len(members)}" if len(members) > 1 else members[0][0]
    kinds = f", {len(plain)} of them without a network" if plain else ""
    return f"{what}{kinds}: {number}; best single candidate ({best.entry.candidate}) {_shown(best.auroc)}{told}."


def _plain_names(found: Found) -> set[str]:
    return {one.candidate.name for one in found.scored if one.candidate.kind == "plain"}


def make_page(found: Found, summary: Mapping[str, Any]) -> str:
    """The whole page."""
    title = f"anymc3d auto: {found.task.name}"
    body = [
        f"<header>\n<h1>{escape(title)}</h1>",
        f'<p class="verdict note">{escape(summary["verdict"])}</p>',
        "" if found.final else paragraph("The search goes on: this is what was found so far.", "quiet"),
        f"<p><strong>{RESEARCH_ONLY}</strong></p>\n</header>\n<main>",
        section("estimate", "What it can do", *_estimate(found, summary)),
        section("members", "What is in the plugin", *_members(found)),
        section("leaderboard", "Leaderboard", *_leaderboard(found)),
        section("how", "How it was chosen", *_how(found, summary)),
        f"</main>\n<footer><p>anymc3d {escape(__version__)}. {RESEARCH_ONLY}</p></footer>",
    ]
    return document(title=title, generator=GENERATOR, identity=f"auto {found.task.name}", body=body)


def _estimate(found: Found, summary: Mapping[str, Any]) -> Iterator[str]:
    cases = summary["cases"]
    boxes = [_box(f"out-of-fold {found.metric}", found.estimate)]
    boxes += [] if found.test is None else [_box(f"{found.metric} of the test split", found.test)]
    boxes += [
        (f"cases, {cases['patients']} patients", str(cases["pool"])),
        ("candidates", str(summary["candidates"])),
        (f"of {found.settings.minutes:g} min", in_words(found.spent_s)),
    ]
    yield tiles(boxes)
    yield paragraph(
        f"The out-of-fold {found.metric} is nested: in each of {cases['folds']} outer folds candidates, members and "
        "weights were chosen on the other folds alone, and the cases of the fold were answered once. It is an estimate "
        "of the whole way of choosing; the plugin was chosen in the same way on all cases."
    )
    rows = [
        [row["label"], row["metric"], _shown(Value(row["value"], row["ci_low"], row["ci_high"])), str(row["n"])]
        for row in found.metrics
        if row["metric"] in SHOWN_METRICS and row["group"] == "all" and row["split"] != "test"
    ]
    yield table(
        "Out-of-fold results, by label", ["label", "metric", "value (95 % interval)", "cases"], rows, numbers=(3,)
    )
    if found.sites:
        rows = [[name, _of(one), str(one["n"])] for name, one in found.sites["sites"].items()]
        yield table(
            f"Leave one {found.data.site} out: everything chosen and fitted without that {found.data.site}",
            [found.data.site, f"{found.metric} (95 % interval)", "cases"],
            rows,
            numbers=(2,),
        )
        yield paragraph(found.sites["note"], "quiet")
    yield from _columns(found)


def _columns(found: Found) -> Iterator[str]:
    """The first question of every reviewer: the clinical columns alone, the image alone, both."""
    if found.covariates is None:
        return
    metric = found.covariates["metric"]
    answers = [[one["what"], one["label"], _of(one)] for one in found.covariates["answers"]]
    title = f"Clinical columns ({', '.join(found.data.covariates)}) and the image, out of fold"
    yield table(title, ["what answers", "label", f"{metric} (95 % interval)"], answers)
    rows = [[one["what"], one["label"], _of(one), _p(one["p"])] for one in found.covariates["differences"]]
    yield table(
        "Paired differences on the same cases", ["what", "label", f"{metric}, difference", "p"], rows, numbers=(3,)
    )
    clinical = found.joined.clinical
    if clinical is not None:
        folds = ", ".join(f"{clinical[0].chosen.count(name)} x {WORDS[name]}" for name in CHOICES)
        yield paragraph(
            f"In the plugin: {WORDS[clinical[1].chosen]}, the simplest of the three within a standard error of the "
            f"lowest cross-entropy; chosen by the outer folds: {folds}."
        )


def _members(found: Found) -> Iterator[str]:
    rows = [[*one[:4], f"{one[4]:,}", f"{one[5]:.2f}"] for one in found.members()]
    yield table(
        "Members and their share of the logit",
        ["member", "kind", "views", "size", "trained parameters", "weight"],
        rows,
        numbers=(4, 5),
    )
    needs = [found.scored[index].candidate for index in found.joined.weights]
    if any(_needs_mask(one) for one in needs):
        yield paragraph("New scans need a segmentation too: a member measures or crops to it.")


def _needs_mask(candidate: Candidate) -> bool:
    task = candidate.task
    crops = any(view.roi is not None and view.roi.source == "mask" for view in task.views.values())
    if candidate.kind == "plain":
        return PLAIN[task.method.name].needs_mask
    return crops or representation(task.features).needs_mask


def _leaderboard(found: Found) -> Iterator[str]:
    rows = []
    for place, one in enumerate(found.ranked[:SHOWN], start=1):
        entry = one.entry
        weight = "" if entry.weight is None else f"{entry.weight:.2f}"
        minus = "" if one.minus.value is None else _shown(one.minus, signed=True)
        beside = [_shown(value) for value in one.numbers.values()]
        name = f"{place}. {entry.candidate}"
        rows.append([name, _shown(one.auroc), *beside, minus, _p(one.minus.p), f"{entry.seconds:.0f}", weight])
    named = [NAMES[name] for name in found.ranked[0].numbers]
    last = 2 + len(named)
    yield table(
        "Out of fold, best first",
        ["candidate", f"{found.metric} (95 % interval)", *named, "minus the first", "p", "seconds", "weight"],
        rows,
        numbers=(last + 1, last + 2, last + 3),
    )
    if len(found.ranked) > SHOWN:
        yield paragraph(f"{len(found.ranked) - SHOWN} more are in leaderboard.csv.", "quiet")
    yield paragraph(
        f"The row '{BLEND}' is the nested estimate. The others are each fitted without the fold they answer, but the "
        "best of many is best by luck too: do not take the first row's number for a result.",
        "quiet",
    )


def _how(found: Found, summary: Mapping[str, Any]) -> Iterator[str]:
    yield listing(
        [f"fold {fold}: {'; '.join(names)}" for fold, names in summary["chosen_per_fold"].items()],
    )
    yield paragraph(
        "Members that each outer fold chose without its own cases. Where they differ, the choice is unsure.", "quiet"
    )
    if found.joined.trained_out is not None:
        folds = len(found.data.pool.fold_names)
        yield paragraph(
            "Training with LoRA lowered the cross-entropy by more than a standard error in "
            f"{found.joined.joined_folds} of {folds} outer folds (on a fifth of their training cases); in the plugin "
            f"it has a weight of {found.joined.trained_weight:.2f}, chosen on the pooled out-of-fold cases."
        )
    if found.notes:
        yield listing(found.notes)


def _box(name: str, value: Value) -> tuple[str, str]:
    """The value large, its interval beside the name."""
    interval = "" if value.low is None else f" ({value.low:.3f} to {value.high:.3f})"
    return f"{name}{interval}", "undefined" if value.value is None else f"{value.value:.3f}"


def _p(value: float | None) -> str:
    return "" if value is None else "< 0.001" if value < 0.0005 else f"{value:.3f}"


def _of(one: Mapping[str, Any]) -> str:
    return _shown(Value(one["value"], one["low"], one["high"])) if one["value"] is not None else "undefined"


def _shown(value: Value, *, signed: bool = False) -> str:
    if value.value is None:
        return "undefined"
    sign = "+" if signed else ""
    if value.low is None:
        return f"{value.value:{sign}.3f}"
    return f"{value.value:{sign}.3f} ({value.low:{sign}.3f} to {value.high:{sign}.3f})"
