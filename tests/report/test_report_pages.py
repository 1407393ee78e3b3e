"""``anymc3d report``: pages that load nothing, that assistive programs can read, and that say what predict says."""

from __future__ import annotations

import base64
import io
import itertools
import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from anymc3d.cli.main import main
from anymc3d.files.tables import read_table
from anymc3d.page.document import Markup, document, table
from anymc3d.plugins import load_plugin, save_plugin
from anymc3d.predict.predictor import load
from anymc3d.predict.study import study_case
from anymc3d.report.study import from_plugin, threshold_of
from anymc3d.report.study_page import study_page
from anymc3d.report.volumes import encode, scan_sheet

VOID = {"meta", "img", "input", "link", "br", "hr", "path", "rect", "line", "circle"}


class Page(HTMLParser):
    """What the checks need of a page; refuses tags that do not close in order."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("script", "style"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


def check_page(text: str) -> Page:
    """The promises that hold for every report."""
    page = Page(text)
    assert not re.search(r"https?:|file:|//[a-z]+\.|@import|url\(", text)
    assert not [tag for tag, _ in page.tags if tag in ("link", "iframe", "object", "embed", "base", "form")]
    assert not [attrs for _, attrs in page.tags if attrs.get("href", "#")[:1] != "#"]
    assert all(attrs["src"].startswith("data:image/") for _, attrs in page.tags if "src" in attrs)
    assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on")]
    (policy,) = [one["content"] for one in page.all("meta") if one.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'") and "script-src 'unsafe-inline'" not in policy
    assert all(image.get("alt") for image in page.all("img"))
    assert all("aria-label" in svg or svg.get("aria-hidden") == "true" for svg in page.all("svg"))
    labelled = {one.get("for") for one in page.all("label")}
    assert all(one["id"] in labelled for one in (*page.all("input"), *page.all("select")))
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert all(one.get("scope") in ("row", "col") for one in page.all("th"))
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert all(attrs["aria-labelledby"] in ids for _, attrs in page.tags if "aria-labelledby" in attrs)
    assert page.all("html")[0]["lang"] == "en"
    assert "Research use only. Not a medical device." in page.text
    return page


@pytest.fixture(scope="module")
def facts(journey):
    return from_plugin(load(journey.plugin, device="cpu"), study_case(journey.scans[1], None), method="grad-rollout")


@pytest.fixture(scope="module")
def study_file(journey, tmp_path_factory):
    out = tmp_path_factory.mktemp("study") / "report.html"
    assert main(["report", "-p", str(journey.plugin), "-i", str(journey.scans[1]), "-o", str(out), "--quiet"]) == 0
    return out


@pytest.fixture(scope="module")
def run_file(journey, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "report.html"
    assert main(["report", str(journey.run), "-o", str(out), "--groups", "sex", "--quiet"]) == 0
    return out


def test_a_study_is_a_whole_readable_page_that_loads_nothing(study_file):
    page = check_page(study_file.read_text())
    assert {"axial-slice", "coronal-slice", "sagittal-slice", "opacity"} <= {one["id"] for one in page.all("input")}
    assert study_file.stat().st_size < 6_000_000
    # Four columns fit on a phone: the bar stands in the cell of its number.
    assert re.search(r'<td class="number">\d\.\d{3} <svg class="meter"', study_file.read_text())


def test_a_study_says_the_numbers_of_predict(study_file, journey):
    found = load(journey.plugin, device="cpu").predict(journey.scans[1])
    page = check_page(study_file.read_text())
    probability = found.probabilities["block"]
    words = ("negative", "positive")[found.decisions["block"]]
    _, threshold = threshold_of(load_plugin(journey.plugin).card, "block")
    assert f"block {words} {probability:.3f} {threshold:.3f}" in page.text
    for weight in found.slice_weights["image"]:
        assert f"{weight:.4f}" in page.text
    assert "not calibrated" in page.text
    # The threshold shown decides as the plugin does.
    assert (probability >= threshold) == bool(found.decisions["block"])


def test_a_study_holds_the_voxels_of_the_scan_and_its_heat(facts):
    """Small scans are kept without loss: what the page's script reads are the reduced voxels themselves."""
    text = study_page(facts)
    data = json.loads(re.search(r'id="viewer-data">(.*?)</script>', text).group(1))
    scan = facts.scans["image"]
    values = np.array(data["values"])
    shown = values[voxels_of(data["scan"])]
    assert np.abs(shown - np.clip(scan.voxels, values[0], values[-1])).max() <= np.diff(values).max() / 2 + 1e-4
    assert data["grey"] == pytest.approx(np.percentile(scan.voxels, (0.5, 99.5)), abs=1e-4)
    heat = facts.maps[0].values
    assert np.array_equal(voxels_of(data["maps"][0]), np.round(heat * 255).astype(np.uint8))
    assert heat[tuple(data["maps"][0]["peak"])] == heat.max()


def voxels_of(sheet):
    """What the script does: tile k of the sheet holds voxel (x, y, k) at pixel (x, y)."""
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(sheet["url"].partition(",")[2]))))
    width, height = sheet["tile"]
    found = np.zeros(sheet["shape"], dtype=np.uint8)
    for k in range(sheet["shape"][2]):
        left, top = k % sheet["across"] * width, k // sheet["across"] * height
        found[:, :, k] = pixels[top : top + sheet["shape"][1], left : left + sheet["shape"][0]].T
    return found


@pytest.mark.parametrize("shape", [(5, 7, 11), (40, 3, 1), (8, 8, 64)])
def test_every_voxel_is_found_again_on_its_sheet(shape):
    grey = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    _, sheet = encode(grey, lossless=True)
    assert np.array_equal(voxels_of(sheet.record()), grey)
    _, sheet = encode(np.full(shape, 90, dtype=np.uint8), lossless=False)
    assert np.abs(voxels_of(sheet.record()).astype(int) - 90).max() <= 2


def test_a_large_scan_fits_its_budget_and_is_marked_as_lossy(facts):
    noise = np.random.default_rng(0).normal(size=(120, 120, 110)).astype(np.float32)
    volume = replace(facts.scans["image"], voxels=noise)
    sheet, reduced = scan_sheet(volume, np.linspace(-2, 2, 256), budget=200_000)
    assert len(base64.b64decode(sheet.url.partition(",")[2])) <= 200_000
    assert not sheet.lossless and max(sheet.shape) < 120
    assert reduced.extent_mm == pytest.approx(volume.extent_mm)


def test_several_classes_and_labels_have_a_list_and_no_threshold_where_the_largest_decides(facts):
    names = ("grade=a", "grade=b", "<script>alert(1)</script>")
    labels = replace(facts.card.labels, columns=("grade",), kind="multiclass", classes=("a", "b", "c"))
    card = replace(facts.card, labels=labels, operating_points=(), calibration=None)
    many = replace(
        facts,
        card=card,
        probabilities=dict(zip(names, (0.2, 0.7, 0.1), strict=True)),
        decisions=dict(zip(names, (0, 1, 0), strict=True)),
        maps=tuple(replace(facts.maps[0], label=name) for name in names),
    )
    page = check_page(study_page(replace(many, card=None)))
    assert page.all("select")[0]["id"] == "map"
    assert "selected" in page.all("option")[1]
    assert "<script>alert" not in study_page(replace(many, card=None))
    assert threshold_of(card, "grade=a") == (None, None)


def test_warnings_and_a_flat_map_are_said(facts):
    flat = replace(facts.maps[0], values=np.zeros_like(facts.maps[0].values))
    card = replace(facts.card, metrics=(), operating_points=())
    warned = replace(facts, status="warn", message="one thing; another", maps=(flat,), card=card)
    page = check_page(study_page(warned))
    assert "with warnings" in page.text and "one thing another" in page.text
    assert "is flat" in page.text


def test_a_report_holds_no_path_file_name_or_header_text(journey, tmp_path):
    image = nib.load(journey.scans[1])
    image.header["descrip"] = b"SMITHSON^ADA"
    folder = tmp_path / "Ada Smithson"
    folder.mkdir()
    nib.save(image, folder / "smithson_ada.nii.gz")
    (folder / "m.csv").write_text("case,image\nc1,smithson_ada.nii.gz\n")
    out = tmp_path / "report.html"
    assert main(["report", "-p", str(journey.plugin), "-i", str(folder / "m.csv"), "-o", str(out), "--quiet"]) == 0
    text = out.read_text()
    assert "Case c1" in text
    assert not re.search(r"smithson|ada_|nii\.gz|" + re.escape(str(tmp_path)), re.sub(r"base64,[^\"]*", "", text), re.I)
    assert oct(out.stat().st_mode)[-3:] == "600"


def test_pseudonyms_replace_the_case_id(journey, tmp_path):
    out, key = tmp_path / "out" / "report.html", tmp_path / "key"
    words = ["-o", str(out), "--quiet", "--pseudonymize", str(key)]
    assert main(["report", "-p", str(journey.plugin), "-i", str(journey.scans[1]), *words]) == 0
    assert "case01" not in out.read_text()
    assert main(["report", str(journey.run), *words, "--overwrite"]) == 0
    assert not re.search(r"case\d\d", out.read_text())


def test_an_explain_folder_gives_the_same_numbers_with_and_without_its_scan(journey, tmp_path, facts, capsys):
    scan, plugin, out = str(journey.scans[1]), str(journey.plugin), tmp_path / "r.html"
    assert main(["explain", "-p", plugin, "-i", scan, "-o", str(tmp_path / "e"), "--quiet"]) == 0
    folder = str(tmp_path / "e" / facts.case)
    assert main(["report", folder, "-o", str(out), "--quiet"]) == 0
    bare = check_page(out.read_text())
    assert "was not given" in bare.text and len(bare.all("img")) == 1
    assert f"{facts.probabilities['block']:.3f}" in bare.text
    assert main(["report", folder, "-p", plugin, "-i", scan, "-o", str(out), "--quiet"]) == 0
    whole = check_page(out.read_text())
    assert len(whole.all("img")) == 4  # three planes and the colour bar
    direct = check_page(study_page(facts))
    answer = re.search(r"Probabilities and decisions.*?Warnings", direct.text).group()
    assert answer in whole.text
    capsys.readouterr()
    assert main(["report", folder, "-i", str(journey.scans[2]), "-o", str(out)]) == 2
    assert "not the scan that was explained" in capsys.readouterr().err
    assert main(["report", str(tmp_path / "e"), "-o", str(out)]) == 2
    assert "holds 1 explained cases" in capsys.readouterr().err


def test_a_run_shows_its_figures_and_hardest_cases(run_file, journey):
    page = check_page(run_file.read_text())
    rows = {row["metric"]: row for row in read_table(journey.run / "metrics.csv") if row["value"]}
    for metric in ("auroc", "sensitivity"):
        assert f"{float(rows[metric]['value']):.3f}" in page.text
    assert "sex=F" in page.text
    assert {"Loss", "ROC", "Precision-recall", "Reliability"} <= set(page.words)
    pictures = page.all("img")
    assert 1 <= len(pictures) <= 6
    predictions = {row["case"]: row for row in read_table(journey.run / "predictions.val.csv")}
    truth = {f"case{i:02d}": i % 2 for i in range(20)}
    given = {}
    for case, row in predictions.items():
        probability = float(row["probability.block"])
        if int(row["decision.block"]) != truth[case]:
            given[case] = probability if truth[case] else 1 - probability
    if given:
        first = min(given, key=lambda case: (given[case], case))
        assert f"{first}: block Truth" in page.text
        assert f"the truth was given probability {given[first]:.3f}" in page.text
    else:
        assert "No answer was wrong" in page.text


def test_a_run_whose_scans_are_gone_says_so(journey, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(journey.run, run)
    out = tmp_path / "r.html"
    assert main(["report", str(run), "-o", str(out), "--quiet"]) == 0
    page = check_page(out.read_text())
    assert not page.all("img") and "cannot be read here" in page.text
    assert str(tmp_path) not in out.read_text() and "nii.gz" not in out.read_text()


@pytest.fixture(scope="module")
def evaluation(journey, tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluated")
    predictions, manifest = folder / "p" / "predictions.csv", journey.data / "manifest.csv"
    words = ["-p", str(journey.plugin), "-i", str(manifest), "-o", str(folder / "p"), "--quiet"]
    assert main(["predict", *words]) == 0
    words = [str(predictions), str(manifest), "-o", str(folder / "e"), "--quiet", "--resamples", "100"]
    assert main(["evaluate", *words, "--groups", "sex"]) == 0
    return folder / "e", predictions, manifest


def test_an_evaluation_shows_its_tables_and_with_its_inputs_the_cases(evaluation, tmp_path, capsys):
    folder, predictions, manifest = evaluation
    out = tmp_path / "r.html"
    assert main(["report", str(folder), "-o", str(out), "--quiet"]) == 0
    page = check_page(out.read_text())
    row = next(r for r in read_table(folder / "metrics.csv") if r["metric"] == "auroc" and r["group"] == "all")
    low, high = (f"{float(row[name]):.3f}" if row[name] else "" for name in ("ci_low", "ci_high"))
    assert f"{float(row['value']):.3f}" + (f" ({low} to {high})" if low else "") in page.text
    assert "sex=M" in page.text and "give --predictions" in page.text
    tables = ["--predictions", str(predictions), "--manifest", str(manifest)]
    assert main(["report", str(folder), "-o", str(out), "--quiet", *tables]) == 0
    assert check_page(out.read_text()).all("img")
    capsys.readouterr()
    tables[1] = str(manifest)
    assert main(["report", str(folder), "-o", str(out), *tables]) == 2
    assert "not the table that this evaluation was made from" in capsys.readouterr().err


def test_bad_input_is_one_clear_line(journey, tmp_path, capsys):
    out, plugin, scan = str(tmp_path / "r.html"), str(journey.plugin), str(journey.scans[1])
    unfinished, empty = tmp_path / "unfinished", tmp_path / "empty"
    empty.mkdir()
    unfinished.mkdir()
    shutil.copy(journey.run / "run.json", unfinished)
    (tmp_path / "notes.html").write_text("<p>mine</p>")
    folds, searched = tmp_path / "folds", tmp_path / "auto"
    (folds / "repeat_0" / "fold_0").mkdir(parents=True)
    (folds / "repeat_0" / "fold_0" / "run.json").write_text("{}")
    (folds / "folds.json").write_text("{}")
    searched.mkdir()
    (searched / "run.json").write_text('{"kind": "auto"}')
    (searched / "auto.json").write_text("{}")
    several = [str(path) for path in journey.scans[:2]]
    for words, expected in [
        (["-o", out], "expected a FOLDER, or a plugin (-p) and a scan (-i)"),
        (["-p", plugin, "-o", out], "expected a FOLDER"),
        ([str(tmp_path / "nowhere"), "-o", out], "no such folder"),
        ([str(empty), "-o", out], "got a folder without a record of one in run.json"),
        ([str(folds), "-o", out], f"for instance {folds / 'repeat_0' / 'fold_0'}"),
        ([str(searched), "-o", out], f"wrote its report beside it, {searched / 'report.html'}"),
        ([plugin, "-o", out], "got a file"),
        ([str(unfinished), "-o", out], "has not finished"),
        (["-p", plugin, "-i", *several, "-o", out], "a report is of one study, got 2"),
        (["-p", plugin, "-i", scan, "--case", "x", "-o", out], "no case 'x'"),
        (["-p", plugin, "-i", scan, "-o", str(tmp_path / "r.pdf")], "ending with .html"),
        (["-p", plugin, "-i", scan, "-o", str(empty)], "got a folder"),
        (["-p", plugin, "-i", scan, "--method", "rollup", "-o", out], "did you mean 'rollout'"),
        (["-p", plugin, "-i", scan, "--groups", "sex", "-o", out], "--groups: has no meaning"),
        ([str(journey.run), "--method", "rollout", "-o", out], "--method: has no meaning"),
        ([str(journey.run), "--groups", "sexx", "-o", out], "did you mean 'sex'"),
        ([str(journey.run), "--worst", "-1", "-o", out], "--worst"),
        ([str(journey.run), "-o", str(tmp_path / "notes.html")], "is not a report of anymc3d"),
    ]:
        assert main(["report", *words]) == 2, words
        captured = capsys.readouterr()
        assert expected in captured.err
        assert captured.err.count("\n") == 1 and "Traceback" not in captured.err
    assert (tmp_path / "notes.html").read_text() == "<p>mine</p>"
    assert not (tmp_path / "r.html").exists()


def test_a_report_replaces_itself_alone(journey, run_file, tmp_path, capsys):
    out = tmp_path / "r.html"
    shutil.copy(run_file, out)
    assert main(["report", str(journey.run), "-o", str(out), "--quiet"]) == 0
    scan = ["-p", str(journey.plugin), "-i", str(journey.scans[1])]
    assert main(["report", *scan, "-o", str(out)]) == 2
    assert "is a report of something else" in capsys.readouterr().err
    assert main(["report", *scan, "-o", str(out), "--overwrite", "--quiet"]) == 0
    other = tmp_path / "other.safetensors"
    plugin = load_plugin(journey.plugin)
    save_plugin(other, replace(plugin.card, name="other"), plugin.tensors)
    assert main(["report", "-p", str(other), *scan[2:], "-o", str(out), "--quiet"]) == 2


def test_cells_are_escaped_and_markup_is_not():
    shown = table("a & b", ("x", "y"), [("<b>", Markup("<em>y</em>"))])
    assert "&lt;b&gt;" in shown and "<em>y</em>" in shown and "a &amp; b" in shown
    page = Page(document(title="<t>", generator="g", identity='"', body=[shown], script="let x = 1;"))
    assert page.all("html")


BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.mark.skipif(BROWSER is None, reason="needs a Chromium browser, which this machine lacks")
def test_a_real_browser_runs_the_sliders(study_file, tmp_path):
    command = [BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=2000", "--dump-dom"]
    done = subprocess.run([*command, study_file.as_uri()], capture_output=True, text=True, timeout=100)
    dom = done.stdout
    assert 'data-viewer="ready"' in dom
    assert dom.count("<canvas") == 3
    assert re.search(
        r'<canvas[^>]* aria-label="axial plane, slice \d+ of 8, [IS] [\d.]+ mm, with the heatmap of block"', dom
    )
    assert not re.search(r'<div class="controls" hidden', dom)
