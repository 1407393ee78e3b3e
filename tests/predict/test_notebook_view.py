"""What a notebook shows of a prediction and a plugin: short, with pictures; a stranger's text is never markup."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

import anymc3d
from anymc3d.plugins import load_plugin
from anymc3d.predict.prediction import Prediction

HOSTILE = '<script>alert("x")</script>\x1b[2J"&'
VOID = {"br", "img"}


class Checked(HTMLParser):
    """Tags that are opened and closed, and the text between them."""

    def __init__(self):
        super().__init__()
        self.open, self.seen, self.text = [], [], ""

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def read(html):
    parser = Checked()
    parser.feed(html)
    assert parser.open == []
    assert "script" not in parser.seen
    assert not re.search(r"\b(?:src|href|on\w+)\s*=", html)
    return parser


@pytest.fixture(scope="module")
def prediction(journey):
    return anymc3d.load(journey.plugin, device="cpu").predict(journey.scans[0])


def test_a_prediction_is_short_and_has_its_answer_and_pictures(prediction):
    text, page = repr(prediction), read(prediction._repr_html_())
    assert text.startswith("<Prediction of 'case00' by 'block': block 0.") and len(text) < 200
    assert f"{prediction.probabilities['block']:.3f}" in page.text
    assert "View image" in page.text
    assert page.seen.count("svg") == 2  # the probability, and the slices
    assert "Research use only" in page.text


def test_other_answers_are_shown_as_what_they_are():
    error = Prediction(case="a", plugin="p", status="error", message="no file")
    assert "no answer, no file" in repr(error)
    assert "No answer: no file" in read(error._repr_html_()).text
    number = Prediction(case="a", plugin="p", status="ok", labels=("age",), values={"age": 61.234})
    assert "61.23" in read(number._repr_html_()).text and "age 61.2" in repr(number)
    unlike = replace(number, unlike_training=("spacing",))
    assert "Do not use" in read(unlike._repr_html_()).text and "unlike" in repr(unlike)
    names = tuple(f"l{i}" for i in range(100))
    many = Prediction(
        case="a",
        plugin="p",
        status="ok",
        labels=names,
        probabilities=dict.fromkeys(names, 0.5),
        decisions=dict.fromkeys(names, 1),
    )
    assert "70 more labels" in read(many._repr_html_()).text
    assert "and 95 more" in repr(many)


def test_a_plugin_has_its_facts_and_its_results(journey):
    plugin = load_plugin(journey.plugin)
    page = read(plugin._repr_html_())
    (auroc,) = [row for row in plugin.card.metrics if row["metric"] == "auroc" and row["group"] == "all"]
    for word in ("block (binary)", "tiny-random", "train 10", plugin.hash[:12], f"AUROC {auroc['value']:.3f}"):
        assert word in page.text, word


def test_texts_of_strangers_stay_texts(journey):
    plugin = load_plugin(journey.plugin)
    labels = replace(plugin.card.labels, columns=(HOSTILE,))
    metrics = tuple(dict(row, label=HOSTILE, reason=HOSTILE, ci_low=None) for row in plugin.card.metrics)
    card = replace(plugin.card, name=HOSTILE, labels=labels, metrics=metrics)
    page = read(replace(plugin, card=card)._repr_html_())
    assert page.text.count("<script>") >= 3  # as text
    assert "\x1b" not in page.text
    answer = Prediction(
        case=HOSTILE,
        plugin=HOSTILE,
        status="warn",
        message=HOSTILE,
        labels=(HOSTILE,),
        probabilities={HOSTILE: 0.5},
        decisions={HOSTILE: 1},
        slice_weights={HOSTILE: (0.5, 0.5)},
    )
    assert "\x1b" not in read(answer._repr_html_()).text + repr(answer)
