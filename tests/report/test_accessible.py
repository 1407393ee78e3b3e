"""What assistive programs need of every report, without a browser; and with one, that no page complains.

Axe-core 4.14 was run by hand on the three kinds of page (docs/reports.md); what it checks most is checked here, too.
"""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from anymc3d.cli.main import main
from anymc3d.page.plot_style import PLOT_STYLE
from anymc3d.page.style import STYLE
from anymc3d.predict.predictor import load
from anymc3d.predict.study import study_case
from anymc3d.recipes.chest import CT_RATE_LABELS
from anymc3d.report.study import _on_other_scans, from_plugin
from anymc3d.report.study_page import study_page

VOID = {"meta", "img", "input", "link", "br", "hr", "path", "rect", "line", "circle"}


class Elements(HTMLParser):
    """Every element with its attributes, its own text, and the tags it lies in."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[tuple[str, dict[str, str], list[str], tuple[str, ...]]] = []
        self.stack: list[int] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        inside = tuple(self.found[i][0] for i in self.stack)
        self.found.append((tag, {name: value or "" for name, value in attrs}, [], inside))
        if tag not in VOID:
            self.stack.append(len(self.found) - 1)

    handle_startendtag = handle_starttag

    def handle_endtag(self, tag):
        if tag not in VOID:
            self.stack.pop()

    def handle_data(self, data):
        for index in self.stack:
            self.found[index][2].append(data)

    def all(self, *tags):
        return [(a, " ".join("".join(words).split()), inside) for t, a, words, inside in self.found if t in tags]


@pytest.fixture(scope="module")
def pages(journey, tmp_path_factory):
    """The three kinds of page, and a study of 18 labels."""
    folder = tmp_path_factory.mktemp("pages")
    study, run, evaluation, many = (folder / f"{name}.html" for name in ("study", "run", "evaluation", "many"))
    scan, manifest = str(journey.scans[1]), str(journey.data / "manifest.csv")
    plugin = ["-p", str(journey.plugin)]
    assert main(["report", *plugin, "-i", scan, "-o", str(study), "--quiet"]) == 0
    assert main(["report", str(journey.run), "-o", str(run), "--heatmap", "--worst", "2", "--quiet"]) == 0
    assert main(["predict", *plugin, "-i", manifest, "-o", str(folder / "p"), "--quiet"]) == 0
    tables = [str(folder / "p" / "predictions.csv"), manifest]
    words = ["--quiet", "--resamples", "100", "--groups", "sex"]
    assert main(["evaluate", *tables, "-o", str(folder / "e"), *words]) == 0
    assert main(["report", str(folder / "e"), "-o", str(evaluation), "--quiet"]) == 0
    facts = from_plugin(load(journey.plugin, device="cpu"), study_case(scan, None), method="attention")
    probabilities = dict(zip(CT_RATE_LABELS, np.linspace(0.01, 0.99, len(CT_RATE_LABELS)).tolist(), strict=True))
    labels = replace(facts.card.labels, columns=tuple(CT_RATE_LABELS), kind="multilabel", classes=())
    eighteen = replace(
        facts,
        card=replace(facts.card, labels=labels, operating_points=(), metrics=()),
        probabilities=probabilities,
        decisions={name: int(value >= 0.5) for name, value in probabilities.items()},
        maps=tuple(replace(facts.maps[0], label=name) for name in CT_RATE_LABELS),
    )
    many.write_text(study_page(eighteen))
    return {path.stem: path for path in (study, run, evaluation, many)}


KINDS = ("study", "run", "evaluation", "many")


@pytest.mark.parametrize("kind", KINDS)
def test_structure_is_one_that_assistive_programs_can_read(pages, kind):
    page = Elements(pages[kind].read_text())
    ((html, _, _),) = page.all("html")
    assert html["lang"] == "en"
    (title,) = [text for _, text, inside in page.all("title") if "head" in inside]
    assert len(title) > 5
    assert len(page.all("main")) == len(page.all("header")) == len(page.all("footer")) == 1
    levels = [int(tag[1]) for tag, *_ in page.found if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert all(text for _, text, _ in page.all("h1", "h2", "h3", "caption", "figcaption", "summary", "th", "button"))
    (viewport,) = [a["content"] for a, *_ in page.all("meta") if a.get("name") == "viewport"]
    assert "user-scalable" not in viewport and "maximum-scale" not in viewport


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_controls_and_tables_say_what_they_are(pages, kind):
    page = Elements(pages[kind].read_text())
    alts = [a["alt"] for a, *_ in page.all("img")]
    assert all(len(alt) > 10 for alt in alts)
    assert all(
        (a.get("role") == "img" and a["aria-label"]) or a.get("aria-hidden") == "true" for a, *_ in page.all("svg")
    )
    labels = {a["for"]: text for a, text, _ in page.all("label")}
    assert all(labels[a["id"]] for a, *_ in page.all("input", "select"))
    ids = [a["id"] for _, a, *_ in page.found if "id" in a]
    assert len(ids) == len(set(ids))
    referred = {
        name for _, a, *_ in page.found for key in ("aria-labelledby", "for") for name in a.get(key, "").split()
    }
    assert referred <= set(ids)
    assert all(a["scope"] in ("col", "row") for a, *_ in page.all("th"))
    assert len(page.all("table")) == len(page.all("caption")) == len(page.all("thead"))
    # What scrolls can be reached by the keyboard and has a name.
    frames = [a for a, *_ in page.all("div") if a.get("class") == "wide"]
    assert len(frames) == len(page.all("table"))
    assert all(a["tabindex"] == "0" and a["role"] and a["aria-label"] for a in frames)


def test_18_labels_have_18_rows_18_maps_and_a_list_to_choose_from(pages):
    page = Elements(pages["many"].read_text())
    options = [text.rsplit(":", 1)[0] for _, text, _ in page.all("option")]
    assert options == [*CT_RATE_LABELS, "as first shown"]
    rows = [text for a, text, _ in page.all("th") if a["scope"] == "row"]
    assert rows[:18] == list(CT_RATE_LABELS)
    assert pages["many"].stat().st_size < 6_000_000


def test_worst_cases_under_heat_say_so(pages):
    text = pages["run"].read_text()
    assert "planes through the highest value of the heatmap for the label" in text
    assert "not where disease is" in text
    alts = [a["alt"] for a, *_ in Elements(text).all("img")]
    assert len(alts) == 2 and all("alone and with the heatmap of block" in alt for alt in alts)


def colours(css: str) -> dict[str, str]:
    return dict(re.findall(r"--([\w-]+):\s*(#[0-9a-f]{3,6})\b", css))


def luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(2 * letter for letter in colour[1:])
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [v / 12.92 if v <= 0.03928 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """WCAG 2.2, 1.4.3."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def palettes() -> dict[str, dict[str, str]]:
    """Light, dark and paper, each over what it inherits."""

    def scheme(css: str, condition: str) -> dict[str, str]:
        parts = re.findall(rf"@media {re.escape(condition)} {{ :root {{(.*?)}}", css, re.S)
        return {name: value for part in parts for name, value in colours(part).items()}

    light = {**colours(STYLE.split("@media")[0]), **colours(PLOT_STYLE.split("@media")[0])}
    dark, paper = ({} for _ in range(2))
    for css in (STYLE, PLOT_STYLE):
        dark |= scheme(css, "(prefers-color-scheme: dark)")
        paper |= scheme(css, "print")
    return {"light": light, "dark": {**light, **dark}, "print": {**light, **paper}}


def test_the_contrast_is_the_one_that_others_compute():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.01)  # WebAIM's answer


@pytest.mark.parametrize("name", ["light", "dark", "print"])
def test_text_stands_out_by_4_5_and_lines_by_3_to_1(name):
    palette = palettes()[name]
    assert len(palette) >= 16 and (name == "light" or palette != palettes()["light"])
    for ground in ("page", "card"):
        for text in ("text", "quiet", "error", "warning", "note", "fine"):
            assert contrast(palette[text], palette[ground]) >= 4.5, (text, ground)
        for line in ("bar", "c0", "c1", "c2", "c3", "c4", "c5"):
            assert contrast(palette[line], palette[ground]) >= 3, (line, ground)


BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.mark.skipif(BROWSER is None, reason="needs a Chromium browser, which this machine lacks")
@pytest.mark.parametrize("kind", ["many", "run"])
def test_a_real_browser_opens_the_page_without_complaint(pages, kind, tmp_path):
    command = [BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr", "--v=0"]
    command += ["--virtual-time-budget=2000", "--dump-dom", pages[kind].as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert "Research use only" in done.stdout
    assert not [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    if kind == "many":
        assert 'data-viewer="ready"' in done.stdout


def test_a_study_of_several_scans_shows_each_under_the_heat_of_its_view(journey):
    facts = from_plugin(load(journey.plugin, device="cpu"), study_case(journey.scans[1], None), method="attention")
    fused = replace(facts.maps[0], view="fused")
    there = replace(facts.maps[0], view="sagittal", column="image.sagittal")
    here = replace(facts.maps[0], view="axial")
    assert _on_other_scans((here, there, fused)) == (there,)
    assert _on_other_scans((here,)) == ()
    scans = {**facts.scans, "image.sagittal": facts.scans["image"]}
    page = Elements(study_page(replace(facts, maps=(fused,), others=(there,), scans=scans)))
    assert "The other scans of the study, block" in [text for _, text, _ in page.all("h3")]
    assert any("scan of view sagittal" in a["alt"] for a, *_ in page.all("img"))


def test_a_baseline_has_no_heat_and_says_so(journey):
    facts = from_plugin(load(journey.plugin, device="cpu"), study_case(journey.scans[1], None), method="attention")
    card = replace(facts.card, kind="baseline", backbone=None)
    text = study_page(replace(facts, card=card, maps=(), slice_weights={}, view_weights={}))
    assert "There is no heatmap of this plugin" in text
    assert "was not given (-i)" not in text
