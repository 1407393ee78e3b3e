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
from anymc3d.data.regions import ROI_SOURCES
from anymc3d.models.features import representation
from anymc3d.models.plain import PLAIN
from anymc3d.page.document import RESEARCH_ONLY, document, listing, paragraph, section, table, tiles
from anymc3d.plugins.evidence import CHANCE
from anymc3d.plugins.evidence import is_shown as is_better
from anymc3d.printable import escape
from anymc3d.settings.config import TaskSettings
from anymc3d.version import __version__

GENERATOR = "anymc3d auto"
NOT_SHOWN = "Not shown to be better than chance, so do not use this plugin"
SHOWN = 40
"""Candidates on the page; the table has all."""
SHOWN_METRICS = ("auroc", "average_precision", "brier", *NUMBERS, "r2", "rmse")
NAMES = {"mae": "MAE", "pearson": "Pearson", "spearman": "Spearman"}
SIZES = (
    "Size: pixels across, pixels down and slices of what a member sees of a scan, once it is resized (all: every "
    "slice), for each view; 'as stored': it measures the scan itself. A name says what of the backbone's answer is "
    "taken, how slices are pooled, and what the backbone is shown: px is the longer side of a slice, and slices are "
    "those of each plane. Kind: plain has no network, frozen takes the backbone as it is, LoRA was trained. Weight: a "
    "factor of the member's logits; a trained member is often so sure that a small weight moves the answer most."
)
WORDS = {"covariates": "the columns alone", "image": "the image alone", "both": "both"}


@dataclass(frozen=True, eq=False)
class Search:
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
    not_answered: int = 0
    """Cases of the test split that have no part in its numbers."""
    sites: Mapping[str, Any] | None = None
    covariates: Mapping[str, Any] | None = None
    doubts: tuple[str, ...] = ()
    """What speaks against the plugin, whatever the scan."""

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
        rows = [row.entry for row in self.ranked if row.entry.lora]
        return rows[0] if rows and rows[0].weight else None

    def members(self) -> list[tuple[str, str, str, str, int, float]]:
        """Name, kind, views, size, trained parameters and weight of every member, the largest first."""
        members = []
        for index, weight in self.joined.weights.items():
            candidate = self.scored[index].candidate
            members.append(
                (candidate.name, candidate.kind, candidate.views, candidate.size, candidate.trained_parameters, weight)
            )
        row = self.trained
        if row is not None:
            name = f"{row.candidate} ({row.members} plugins, one per fold)"
            members.append((name, "LoRA", row.views, row.size, row.trained_parameters, float(row.weight or 0)))
        return sorted(members, key=lambda member: -member[-1])


def read_summary(folder: AutoFolder) -> dict[str, Any]:
    """``auto.json`` of a finished run."""
    return json.loads(folder.summary.read_text(encoding="utf-8"))


def make_summary(search: Search) -> dict[str, Any]:
    """``auto.json``; no id or path is in it."""
    pool = search.data.pool
    names = [scored.candidate.name for scored in search.scored]
    return {
        "format": 1,
        "task": search.task.name,
        "labels": list(search.data.labels.output_names),
        "finished": search.final,
        "verdict": verdict(search),
        "doubts": list(search.doubts),
        "metric": search.metric,
        "r2" if search.data.labels.is_number else "auroc": _named(search),
        "numbers": {name: asdict(value) for name, value in _blend_row(search).numbers.items()},
        "covariates": None
        if search.covariates is None or search.joined.clinical is None
        else {
            **search.covariates,
            "chosen": search.joined.clinical[1].chosen,
            "chosen_per_fold": dict(zip(pool.fold_names, search.joined.clinical[0].chosen, strict=True)),
        },
        "test": None if search.test is None else asdict(search.test) | {"not_answered": search.not_answered},
        "sites": search.sites,
        "cases": {
            "pool": len(pool),
            "patients": len(set(pool.patients)),
            "test": len(search.data.test),
            "folds": len(pool.fold_names),
        },
        "members": [{"candidate": member[0], "weight": member[-1]} for member in search.members()],
        "trained": None
        if search.joined.trained_out is None
        else {"weight": search.joined.trained_weight, "joined_in_folds": search.joined.joined_folds},
        "chosen_per_fold": {
            fold: [names[index] for index in blend.weights]
            for fold, blend in zip(pool.fold_names, search.joined.nested.chosen, strict=True)
        },
        "candidates": len(search.scored),
        "settings": asdict(search.settings),
        "seconds": round(search.spent_s, 1),
        "notes": list(search.notes),
    }


def _blend_row(search: Search) -> Ranked:
    return next(row for row in search.ranked if row.entry.candidate == BLEND)


def _named(search: Search) -> dict[str, Any]:
    labels = search.data.labels
    of = "mean over labels" if labels.kind in ("multiclass", "ordinal", "multilabel") else labels.columns[0]
    return {"of": of} | asdict(search.estimate)


def is_shown(search: Search) -> bool:
    """Whether the nested estimate of any label is surely better than chance."""
    rows = [row for row in search.metrics if row["metric"] in CHANCE and row["group"] == "all"]
    return any(is_better(row) for row in rows if row["label"] != "macro")


def verdict(search: Search) -> str:
    """The first line of the report: whether it is better than chance, what won, and by how much."""
    return _winner(search) if is_shown(search) else f"{NOT_SHOWN}. {_winner(search)}"


def _winner(search: Search) -> str:
    members = search.members()
    number = f"out-of-fold {search.metric} {_with_interval(search.estimate)}"
    member, names = search.joined.member, ", ".join(search.data.covariates)
    if member is not None and member.chosen == "covariates":
        return f"The clinical columns win: {names}, alone, {number}; beside them the image adds nothing that shows."
    if member is not None:
        adds = f"{names} {'add' if len(search.data.covariates) > 1 else 'adds'} nothing that shows"
        number = f"with {names} {number}" if member.chosen == "both" else f"{number}, {adds}"
    plain = [member for member in members if member[1] == "plain"]
    if len(plain) == len(members):
        return _simple_won(search, [member[0] for member in plain], number)
    best = next(row for row in search.ranked if row.entry.weight is not None)
    simple = next((row for row in search.ranked if row.entry.candidate in _plain_names(search)), None)
    compared = f"; best simple method alone ({simple.entry.candidate}) {_with_interval(simple.auroc)}" if simple else ""
    blend = search.estimate.value
    if simple and (simple.auroc.value or 0.0) >= (blend or 0.0) > 0:
        compared += ", which is no lower than the blend (but was picked as the best of several)"
    what = f"A blend of {len(members)}" if len(members) > 1 else members[0][0]
    kinds = f", {len(plain)} of them without a network" if plain else ""
    single = f"best single candidate ({best.entry.candidate}) {_with_interval(best.auroc)}"
    return f"{what}{kinds}: {number}; {single}{compared}."


def _simple_won(search: Search, names: Sequence[str], number: str) -> str:
    """That simple methods answer alone: because they are better, or because nothing else was there to compare."""
    together = f"{', '.join(names[:-1])} and {names[-1]} together" if len(names) > 1 else names[0]
    if not any(scored.candidate.kind == "frozen" for scored in search.scored):
        return f"Only simple methods were compared, no network (the notes say why): {together}, {number}."
    won = "Simple methods win" if len(names) > 1 else "The simple method wins"
    return f"{won}: {together}, without a network, {number}."


def lacks_answers(summary: Mapping[str, Any]) -> str:
    """That cases of the test split have no part in its numbers, in words; nothing where all have."""
    missing, of = summary["test"]["not_answered"], summary["cases"]["test"]
    return f", but {missing} of {of} cases could not be answered" if missing else ""


def _plain_names(search: Search) -> set[str]:
    return {scored.candidate.name for scored in search.scored if scored.candidate.kind == "plain"}


def make_page(search: Search, summary: Mapping[str, Any]) -> str:
    """The whole page."""
    title = f"anymc3d auto: {search.task.name}"
    body = [
        f"<header>\n<h1>{escape(title)}</h1>",
        f'<p class="verdict {"note" if is_shown(search) else "warning"}">{escape(summary["verdict"])}</p>',
        "" if search.final else paragraph("The search goes on: this is what was found so far.", "quiet"),
        f"<p><strong>{RESEARCH_ONLY}</strong></p>\n</header>\n<main>",
        section("estimate", "What it can do", *_estimate(search, summary)),
        section("members", "What is in the plugin", *_members(search)),
        section("leaderboard", "Leaderboard", *_leaderboard(search)),
        section("how", "How it was chosen", *_how(search, summary)),
        f"</main>\n<footer><p>anymc3d {escape(__version__)}. {RESEARCH_ONLY}</p></footer>",
    ]
    return document(title=title, generator=GENERATOR, identity=f"auto {search.task.name}", body=body)


def _estimate(search: Search, summary: Mapping[str, Any]) -> Iterator[str]:
    cases = summary["cases"]
    boxes = [_box(f"out-of-fold {search.metric}", search.estimate)]
    if search.test is not None:
        boxes.append(_box(f"{search.metric} of the test split{lacks_answers(summary)}", search.test))
    boxes += [
        (f"cases, {cases['patients']} patients", str(cases["pool"])),
        ("candidates", str(summary["candidates"])),
        (f"of {search.settings.minutes:g} min", in_words(search.spent_s)),
    ]
    yield tiles(boxes)
    if search.doubts:
        yield listing(f"The plugin: {doubt}" for doubt in search.doubts)
    yield paragraph(
        f"The out-of-fold {search.metric} is nested: in each of {cases['folds']} outer folds candidates, members and "
        "weights were chosen on the other folds alone, and the cases of the fold were answered once. It is an estimate "
        "of the whole way of choosing; the plugin was chosen in the same way on all cases."
    )
    rows = [
        [
            row["label"],
            str(row["metric"]).replace("_", " "),
            _with_interval(Value(row["value"], row["ci_low"], row["ci_high"])),
            str(row["n"]),
        ]
        for row in search.metrics
        if row["metric"] in SHOWN_METRICS and row["group"] == "all" and row["split"] != "test"
    ]
    yield table(
        "Out-of-fold results, by label", ["label", "metric", "value (95 % interval)", "cases"], rows, numbers=(3,)
    )
    if search.sites:
        rows = [[name, _of(site), str(site["n"])] for name, site in search.sites["sites"].items()]
        yield table(
            f"Leave one {search.data.site} out: everything chosen and fitted without that {search.data.site}",
            [search.data.site, f"{search.metric} (95 % interval)", "cases"],
            rows,
            numbers=(2,),
        )
        yield paragraph(search.sites["note"], "quiet")
    yield from _columns(search)


def _columns(search: Search) -> Iterator[str]:
    """The first question of every reviewer: the clinical columns alone, the image alone, both."""
    if search.covariates is None:
        return
    metric = search.covariates["metric"]
    answers = [[answer["what"], answer["label"], _of(answer)] for answer in search.covariates["answers"]]
    title = f"Clinical columns ({', '.join(search.data.covariates)}) and the image, out of fold"
    yield table(title, ["what answers", "label", f"{metric} (95 % interval)"], answers)
    rows = [[pair["what"], pair["label"], _of(pair), _p(pair["p"])] for pair in search.covariates["differences"]]
    yield table(
        "Paired differences on the same cases", ["what", "label", f"{metric}, difference", "p"], rows, numbers=(3,)
    )
    clinical = search.joined.clinical
    if clinical is not None:
        folds = ", ".join(f"{clinical[0].chosen.count(name)} x {WORDS[name]}" for name in CHOICES)
        yield paragraph(
            f"In the plugin: {WORDS[clinical[1].chosen]}, the simplest of the three within a standard error of the "
            f"lowest cross-entropy; chosen by the outer folds: {folds}."
        )


def _members(search: Search) -> Iterator[str]:
    rows = [[*member[:4], f"{member[4]:,}", f"{member[5]:.2f}"] for member in search.members()]
    yield table(
        "Members and the weights of their logits",
        ["member", "kind", "views", "size", "trained parameters", "weight"],
        rows,
        numbers=(4, 5),
    )
    yield paragraph(SIZES, "quiet")
    needs = [search.scored[index].candidate for index in search.joined.weights]
    if any(_needs_mask(candidate) for candidate in needs):
        yield paragraph("New scans need a segmentation too: a member measures or crops to it.")
    if any(_needs_point(candidate) for candidate in needs):
        yield paragraph("New scans need their point of interest too: a member shows what lies around it.")


def _needs_mask(candidate: Candidate) -> bool:
    task = candidate.task
    crops = any(ROI_SOURCES[source].needs_mask for source in _regions(candidate))
    if candidate.kind == "plain":
        return PLAIN[task.method.name].needs_mask
    return crops or representation(task.features).needs_mask


def _needs_point(candidate: Candidate) -> bool:
    return "point" in _regions(candidate)


def _regions(candidate: Candidate) -> set[str]:
    """The sources of the regions that its views show."""
    return {view.roi.source for view in candidate.task.views.values() if view.roi is not None}


def _leaderboard(search: Search) -> Iterator[str]:
    rows = []
    for place, row in enumerate(search.ranked[:SHOWN], start=1):
        entry = row.entry
        weight = "" if entry.weight is None else f"{entry.weight:.2f}"
        minus = "" if row.minus.value is None else _with_interval(row.minus, signed=True)
        numbers = [_with_interval(value) for value in row.numbers.values()]
        name = f"{place}. {entry.candidate}"
        rows.append([name, _with_interval(row.auroc), *numbers, minus, _p(row.minus.p), f"{entry.seconds:.0f}", weight])
    named = [NAMES[name] for name in search.ranked[0].numbers]
    last = 2 + len(named)
    yield table(
        "Out of fold, best first",
        ["candidate", f"{search.metric} (95 % interval)", *named, "minus the first", "p", "seconds", "weight"],
        rows,
        numbers=(last + 1, last + 2, last + 3),
    )
    if len(search.ranked) > SHOWN:
        yield paragraph(f"{len(search.ranked) - SHOWN} more are in leaderboard.csv.", "quiet")
    yield paragraph(
        f"The row '{BLEND}' is the nested estimate. The others are each fitted without the fold they answer, but the "
        "best of many is best by luck too: do not take the first row's number for a result.",
        "quiet",
    )


def _how(search: Search, summary: Mapping[str, Any]) -> Iterator[str]:
    yield listing(
        [f"fold {fold}: {'; '.join(names)}" for fold, names in summary["chosen_per_fold"].items()],
    )
    yield paragraph(
        "Members that each outer fold chose without its own cases. Where they differ, the choice is unsure.", "quiet"
    )
    if search.joined.trained_out is not None:
        folds = len(search.data.pool.fold_names)
        yield paragraph(
            "Training with LoRA lowered the cross-entropy by more than a standard error in "
            f"{search.joined.joined_folds} of {folds} outer folds (on a fifth of their training cases); in the plugin "
            f"it has a weight of {search.joined.trained_weight:.2f}, chosen on the pooled out-of-fold cases."
        )
    if search.notes:
        yield listing(search.notes)


def _box(name: str, value: Value) -> tuple[str, str]:
    """The value large, its interval beside the name."""
    interval = "" if value.low is None else f" ({value.low:.3f} to {value.high:.3f})"
    return f"{name}{interval}", "undefined" if value.value is None else f"{value.value:.3f}"


def _p(value: float | None) -> str:
    return "" if value is None else "< 0.001" if value < 0.0005 else f"{value:.3f}"


def _of(row: Mapping[str, Any]) -> str:
    return _with_interval(Value(row["value"], row["low"], row["high"])) if row["value"] is not None else "undefined"


def _with_interval(value: Value, *, signed: bool = False) -> str:
    if value.value is None:
        return "undefined"
    sign = "+" if signed else ""
    if value.low is None:
        return f"{value.value:{sign}.3f}"
    return f"{value.value:{sign}.3f} ({value.low:{sign}.3f} to {value.high:{sign}.3f})"
