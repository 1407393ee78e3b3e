"""A plugin that is not shown to be better than chance says so, wherever it answers."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from anymc3d.cli.main import main
from anymc3d.evaluate.regression.scale import NumberScale
from anymc3d.plugins import Member, PluginCard, card_to_json, load_plugin, read_card, save_plugin
from anymc3d.plugins.card import PlainRecord
from anymc3d.plugins.evidence import chosen_on, doubts_of, evidence_of, in_words, out_of_fold_rows, unproven
from anymc3d.plugins.notebook_view import html_of
from anymc3d.settings.config import LabelSettings
from anymc3d.settings.training import MethodSettings
from anymc3d.settings.views import ViewSettings

LABELS = LabelSettings(columns=("a", "b"), kind="multilabel")


def row(label, value, low, high, *, metric="auroc", reason="", split="val", positive=9):
    cells = {"metric": metric, "label": label, "group": "all", "split": split, "plugin": "t", "operating_point": ""}
    interval = {"value": value, "ci_low": low, "ci_high": high, "ci_method": "delong"}
    return {**cells, **interval, "n": 40, "n_positive": positive, "reason": reason}


def point(positive, n=40, criterion="youden"):
    where = {"source_split": "val", "n": n, "n_positive": positive}
    return {"name": criterion, "criterion": criterion, "threshold": 0.1, "value": 0.5, **where}


def card_of(*metrics, labels=LABELS, points=(), out_of_fold=()):
    return PluginCard(
        name="t",
        labels=labels,
        modality="MR",
        preprocessing={"image": ViewSettings(size=(28, 28, 4), plane="axial")},
        backbone=None,
        method=MethodSettings(name="volume"),
        fusion="mean",
        plain=PlainRecord(measures=("volume",)),
        code_version=1,
        kind="plain",
        metrics=metrics,
        operating_points=points,
        out_of_fold=out_of_fold,
    )


GOOD, POOR = row("a", 0.9, 0.8, 0.95), row("b", 0.55, 0.41, 0.7)


def test_the_labels_whose_interval_reaches_chance_are_named_with_their_results():
    card = card_of(GOOD, POOR, row("macro", 0.7, 0.45, 0.8))
    assert list(unproven(card)) == ["b"]
    (said,) = doubts_of(card)
    assert said.startswith("not shown to be better than chance, so do not use it: b, AUROC 0.550")
    assert "0.410 to 0.700) on 40 validation cases, 9 of them positive" in said
    assert not doubts_of(card_of(GOOD, row("b", 0.9, 0.501, 0.95)))


@pytest.mark.parametrize("low", [0.5, 0.2])
def test_exactly_chance_and_worse_than_chance_are_not_better(low):
    assert "b" in unproven(card_of(GOOD, row("b", 0.3, low, 0.45)))


def test_a_result_without_value_or_interval_shows_nothing():
    card = card_of(row("a", None, None, None, reason="one outcome only"), row("b", 0.9, None, None, reason="few"))
    assert list(unproven(card)) == ["a", "b"]
    assert "AUROC undefined on 40" in doubts_of(card)[0] and "one outcome only" in doubts_of(card)[0]
    assert "AUROC 0.900 without an interval" in doubts_of(card)[0]


@pytest.mark.parametrize(("n", "positive", "shown"), [(4, 2, False), (6, 3, False), (8, 4, True), (40, 20, True)])
def test_outcomes_that_are_separated_perfectly_have_no_interval_and_count_where_chance_would_not_do_it(
    n, positive, shown
):
    """1 of 6, 20, 70 and 1.4e11 ways to draw the positive ones."""
    perfect = row("a", 1.0, None, None, reason="the scores separate the outcomes perfectly", positive=positive)
    assert ("a" not in unproven(card_of({**perfect, "n": n}))) is shown
    assert "a" in unproven(card_of({**perfect, "n": n, "value": 0.97}))


def test_cases_out_of_fold_count_before_those_of_validation():
    kept = out_of_fold_rows([row("b", 0.8, 0.7, 0.9), row("b", 0.9, 0.1, 1, metric="sensitivity"), GOOD])
    assert [one["metric"] for one in kept] == ["auroc", "auroc"] and {one["split"] for one in kept} == {"out-of-fold"}
    card = card_of(GOOD, POOR, out_of_fold=kept)
    assert not doubts_of(card)
    assert chosen_on(card).startswith("the validation cases") and chosen_on(card_of(*kept)).startswith("all cases out")
    assert all(in_words(one).endswith("on 40 cases out of fold, 9 of them positive") for one in evidence_of(card))


def test_a_number_is_measured_by_r2_against_0():
    labels = LabelSettings(columns=("age",), kind="regression")
    found = unproven(replace_labels(card_of(), labels, row("age", 0.1, -0.2, 0.3, metric="r2", positive=None)))
    assert found["age"].startswith("R² 0.100 (95 % interval -0.200 to 0.300) on 40 validation cases")


def replace_labels(card, labels, *metrics):
    return replace(card, labels=labels, number=NumberScale(center=0, spread=1, low=-1, high=1), metrics=metrics)


@pytest.mark.parametrize(
    ("positive", "n", "criterion", "few"),
    [
        (4, 40, "youden", True),
        (36, 40, "youden", True),
        (5, 10, "youden", False),
        (0, 0, "probability=0.5", False),
    ],
)
def test_an_operating_point_of_few_cases_of_an_outcome_is_one(positive, n, criterion, few):
    card = card_of(GOOD, row("b", 0.9, 0.8, 0.95), points=(point(9), point(positive, n, criterion)))
    said = " ".join(doubts_of(card))
    assert (f"b, {positive} positive and {n - positive} negative validation cases" in said) is few
    assert "a, 9" not in said


def test_of_classes_no_operating_point_is_used():
    labels = LabelSettings(columns=("g",), kind="multiclass", classes=("x", "y", "z"))
    assert not doubts_of(card_of(labels=labels, points=tuple(point(1) for _ in "xyz")))


def test_an_ensemble_without_results_has_the_doubts_of_all_its_members():
    poor, good = card_of(GOOD, POOR), card_of(GOOD, row("b", 0.9, 0.8, 0.95))
    for members, expected in (((poor, poor), ["b"]), ((poor, good), []), ((poor, card_of()), [])):
        own = tuple(Member(card=one, hash="0" * 64) for one in members)
        assert list(unproven(replace(card_of(), plain=None, kind="ensemble", members=own))) == expected


def test_plugins_of_before_stay_readable_and_new_ones_keep_the_key():
    card = card_of(GOOD, out_of_fold=out_of_fold_rows([GOOD]))
    text = json.loads(card_to_json(card))
    assert read_card(json.dumps(text), "here").out_of_fold == list(card.out_of_fold)
    del text["out_of_fold"]
    assert read_card(json.dumps(text), "here").out_of_fold == ()


def test_H17_commands_pages_and_notebooks_say_it(journey, tmp_path, capsys):
    """The plugin of four validation cases: every place in which it answers."""
    words = ["-p", str(journey.plugin), "-i", str(journey.scans[1])]
    assert main(["predict", *words, "-o", str(tmp_path / "p"), "--quiet"]) == 0
    assert "warning: plugin block: not shown to be better than chance" in capsys.readouterr().err
    plugin, other = load_plugin(journey.plugin), tmp_path / "other.safetensors"
    save_plugin(other, plugin.card, {name: 1.01 * tensor for name, tensor in plugin.tensors.items()})
    assert main(["ensemble", str(journey.plugin), str(other), "-o", str(tmp_path / "e.safetensors")]) == 0
    assert "warning: plugin block-ensemble: not shown to be better than chance" in capsys.readouterr().err
    assert main(["plugin", "show", str(journey.plugin)]) == 0
    shown = capsys.readouterr().out
    assert "warning: not shown to be better than chance" in shown and "rests on fewer than 5" in shown
    assert "not shown to be better than chance" in html_of(load_plugin(journey.plugin)).lower()
    page = tmp_path / "r.html"
    assert main(["report", *words, "-o", str(page)]) == 0
    assert "this plugin is not shown to be better than chance. AUROC" in page.read_text()
    assert "not shown to be better than chance" in capsys.readouterr().err
