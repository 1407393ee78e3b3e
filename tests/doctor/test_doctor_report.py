"""The report as text, JSON and HTML, and the command."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest
from data_set_makers import NUM_WHOLE, body, whole

from anymc3d.cli.main import main
from anymc3d.doctor.checks import CHECKS, Finding
from anymc3d.doctor.examine import examine
from anymc3d.doctor.page import to_html
from anymc3d.doctor.report import RESEARCH_ONLY, make_report, to_json
from anymc3d.doctor.text import to_text

SCRIPT = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A whole data set in a folder whose name must not be told."""
    made = whole(tmp_path_factory.mktemp("john_doe_1970"))
    made.write()
    return made.folder


@pytest.fixture(scope="module")
def report(folder):
    return make_report(examine(folder / "manifest.csv", labels=("lesion", "rare")))


class Page(HTMLParser):
    """Collects tags and their attributes, and checks that what is opened is closed."""

    VOID = ("meta", "line", "br", "link", "img")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_a_whole_data_set_has_no_fault_at_all(report):
    assert report.findings == ()
    assert report.exit_code == 0
    assert report.summary.num_cases == report.summary.num_read == NUM_WHOLE
    assert report.summary.splits == {"train": 8, "val": 8, "test": 8}
    assert ("lesion", "1", {"train": 4, "val": 4, "test": 4}) in report.summary.labels
    few = "'anymc3d auto' wants 10 patients of each outcome outside the test split: lesion = 0 has 8, lesion = 1 has 8"
    assert few in to_text(report) and few.replace("'", "&#x27;") in to_html(report)


def test_a_ct_shows_its_hounsfield_units_as_histogram(report):
    histogram = report.summary.histograms[-1]
    assert histogram.unit == "HU"
    air = [count for edge, count in zip(histogram.edges, histogram.counts, strict=False) if -1100 <= edge < -900]
    assert sum(air) > 2000
    assert sum(histogram.counts) == pytest.approx(10_000, abs=40)


def test_json_has_a_schema_and_is_the_same_every_time(report, folder):
    again = make_report(examine(folder / "manifest.csv", labels=("lesion", "rare")))
    text = json.dumps(to_json(report), allow_nan=False)
    assert text == json.dumps(to_json(again), allow_nan=False)
    plain = json.loads(text)
    assert (plain["schema"], plain["schema_version"]) == ("anymc3d-doctor", 1)
    assert plain["verdict"] == "No fault was found."
    assert set(plain["checks"]) == set(CHECKS)


def test_two_processes_tell_the_same_as_none(report, folder):
    parallel = make_report(examine(folder / "manifest.csv", labels=("lesion", "rare"), processes=2))
    assert to_json(parallel) == to_json(report)


def test_G3_no_form_of_the_report_tells_where_the_scans_lie(report, folder):
    (folder / "gone.csv").write_text("case,image\na,gone/a.nii\nb,c00.nii\n")
    (folder / "c99.nii").write_bytes(b"damaged")
    (folder / "damaged.csv").write_text(f"case,image\na,c99.nii\nb,{folder}/nothing.nii\nc,absent.nii\n")
    for name in ("gone.csv", "damaged.csv", "no_such.csv"):
        made = make_report(examine(folder / name))
        assert made.findings
        for text in (to_text(made), to_html(made), json.dumps(to_json(made))):
            assert "john_doe" not in text
            assert not re.search(r"(c99|absent|nothing)\.nii", text)


def test_html_needs_no_network_and_no_script(report):
    text = to_html(report)
    page = Page(text)
    assert page.open == []
    tags = [tag for tag, _ in page.seen]
    assert not {"script", "link", "img", "iframe", "object"} & set(tags)
    assert "http" not in re.sub(r'http-equiv="', "", text)
    assert "url(" not in text and "@import" not in text
    policy = next(
        a["content"] for t, a in page.seen if t == "meta" and a.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy.startswith("default-src 'none'")


def test_html_can_be_read_by_everybody(report):
    text = to_html(with_findings(report))
    page = Page(text)
    assert text.startswith("<!DOCTYPE html>\n<html lang=")
    tags = [tag for tag, _ in page.seen]
    headings = [int(tag[1]) for tag in tags if re.fullmatch(r"h[1-6]", tag)]
    assert headings[0] == 1 and headings.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(headings))
    assert all(attributes.get("scope") in ("row", "col") for tag, attributes in page.seen if tag == "th")
    assert all(attributes.get("aria-label") for tag, attributes in page.seen if tag == "svg")
    assert tags.count("caption") == tags.count("table")
    assert RESEARCH_ONLY in text
    for word in ("prefers-color-scheme: dark", "@media print", 'name="viewport"'):
        assert word in text


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_colours_of_text_have_contrast(report, scheme):
    """WCAG 2.1, level AA: 4.5 to 1 on the page and on cards."""
    blocks = re.findall(r":root \{[^}]*\}", to_html(report))
    colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", blocks[scheme]))
    for text in ("text", "quiet", "error", "warning", "note", "fine"):
        for ground in ("page", "card"):
            bright, dark = sorted((luminance(colours[text]), luminance(colours[ground])), reverse=True)
            assert (bright + 0.05) / (dark + 0.05) >= 4.5, (text, ground)


def with_findings(report):
    findings = (
        Finding("scan-unreadable", SCRIPT, (SCRIPT, "b\x1b[31m"), (2, 3), "image"),
        Finding("view-missing", "many", tuple(f"c{i}" for i in range(40)), tuple(range(2, 42)), "image.second"),
        Finding("storage-differs", "note", ("c1",), (2,), "image"),
    )
    return replace(report, findings=findings, manifest=f"{SCRIPT}.csv")


def test_E15_text_of_the_manifest_runs_nowhere(report):
    spoiled = with_findings(report)
    assert SCRIPT not in to_html(spoiled)
    assert "\x1b" not in to_html(spoiled) + to_text(spoiled)


def test_all_findings_are_in_all_forms(report):
    spoiled = with_findings(report)
    for one in spoiled.findings:
        assert one.check in to_text(spoiled)
        assert f"<code>{one.check}</code>" in to_html(spoiled)
    assert [one["check"] for one in to_json(spoiled)["findings"]] == [one.check for one in spoiled.findings]
    assert "c39" in to_html(spoiled)
    assert "and 32 more" in to_text(spoiled)


@pytest.mark.parametrize(("check", "code"), [("scan-unreadable", 2), ("view-missing", 0), ("storage-differs", 0)])
def test_D10_only_errors_change_the_exit_code(report, check, code):
    assert replace(report, findings=(Finding(check, "x"),)).exit_code == code


def run(capsys, *words: object) -> tuple[int, str, str]:
    code = main([str(word) for word in words])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_the_command_writes_page_and_data_and_prints_the_text(folder, tmp_path, capsys):
    words = ("doctor", folder / "manifest.csv", "--labels", "lesion,rare", "--headers-only", "--jobs", 0)
    code, out, _ = run(capsys, *words, "-o", tmp_path / "out")
    assert code == 0
    assert "No fault was found." in out and "voxels were not decoded" in out
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert set(before) == {"doctor.html", "doctor.json"}
    assert json.loads(before["doctor.json"])["headers_only"]
    run(capsys, *words, "-o", tmp_path / "out", "--quiet")
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}


def test_the_command_says_2_and_prints_json(tmp_path, capsys):
    (tmp_path / "m.csv").write_text("case,image\na,a.nii\n")
    code, out, err = run(capsys, "doctor", tmp_path / "m.csv", "--json")
    assert code == 2 and err == ""
    assert [one["check"] for one in json.loads(out)["findings"]] == ["scan-not-found", "patient-column-missing"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("doctor", "--labels", "a"), "name its manifest"),
        (("doctor", "m.csv", "--labels", "a", "--task", "t.yaml"), "give one of them"),
        (("doctor", "m.csv", "--jobs", "-1"), "expected 0 or more"),
        (("doctor", "m.csv", "-o", __file__), "expected a folder"),
        (("doctor", "nofile.csv"), "nofile.csv: no such file"),
    ],
)
def test_wrong_use_is_one_line(words, told, capsys):
    code, out, err = run(capsys, *words)
    assert code == 2 and out == ""
    assert told in err and err.count("\n") == 1


def test_a_task_file_says_what_is_expected(folder, tmp_path, capsys):
    task = tmp_path / "task.yaml"
    task.write_text(
        "format: 1\nname: lesion\nlabels: {columns: [lesion], kind: binary, classes: ['no', 'yes']}\n"
        f"data: {{manifest: {folder / 'manifest.csv'}, modality: MR}}\nviews:\n  image: {{size: [28, 28, 4]}}\n"
    )
    code, out, _ = run(capsys, "doctor", folder / "manifest.csv", "--task", task, "--jobs", 0, "--json")
    told = {one["check"]: one for one in json.loads(out)["findings"]}
    assert code == 2
    assert set(told) == {"label-outside", "modality-differs"}
    assert len(told["modality-differs"]["cases"]) == NUM_WHOLE


def test_one_scan_alone_can_be_examined(tmp_path):
    made = whole(tmp_path, count=1)
    made.rows[0].pop("split")
    assert make_report(examine(made.write())).exit_code == 0
    assert np.isfinite(body(0)).all()


def test_A14_a_table_without_cases_is_told_so(tmp_path, capsys):
    (tmp_path / "m.csv").write_text("image,y\n")
    code, out, _ = run(capsys, "doctor", str(tmp_path / "m.csv"), "--labels", "y")
    assert code == 2 and "manifest-empty" in out and "add a row per case below the header" in out


def test_cases_without_an_image_column_are_patients_of_their_own(tmp_path, capsys):
    (tmp_path / "m.csv").write_text("name,y\n" + "".join(f"x{k},{k % 2}\n" for k in range(24)))
    _, out, _ = run(capsys, "doctor", str(tmp_path / "m.csv"), "--labels", "y")
    assert "24 cases of 24 patients" in out and "each case counts as a patient of its own" in out
