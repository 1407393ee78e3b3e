"""A report follows the record of an explained case nowhere but into its own folder."""

import json
import shutil

import pytest

from anymc3d.cli.main import main

PNG = b"\x89PNG\r\n\x1a\nsecret"


@pytest.fixture(scope="module")
def explained(journey, tmp_path_factory):
    out = tmp_path_factory.mktemp("explained") / "out"
    assert main(["explain", "-p", str(journey.plugin), "-i", str(journey.scans[0]), "-o", str(out), "--quiet"]) == 0
    return out / "case00"


@pytest.fixture
def case(explained, tmp_path):
    return shutil.copytree(explained, tmp_path / "out" / "case00")


def changed(case, change):
    path = case / "explain.json"
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


def refused(case, capsys):
    page = case.parent.parent / "r.html"
    assert main(["report", str(case), "-o", str(page)]) == 2
    assert not page.exists()
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


@pytest.mark.parametrize("name", ["../../secret.png", "{folder}/secret.png", "link.png", "..", "a\x00b"])
def test_A8_files_outside_its_folder_are_never_opened(case, capsys, name):
    secret = case.parent.parent / "secret.png"
    secret.write_bytes(PNG)
    (case / "link.png").symlink_to(secret)
    changed(case, lambda record: record["heatmaps"][0].update(files=[name.format(folder=secret.parent)]))
    refused(case, capsys)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r.update(probabilities={"block": "high"}), "probabilities.block: expected a number"),
        (lambda r: r.update(probabilities={"block": 7}), "probabilities.block: expected 0 to 1, got 7"),
        (lambda r: r.update(decisions=[1]), "decisions: expected keys and values"),
        (lambda r: r.update(heatmaps=[1]), "heatmaps[0]: expected keys and values"),
        (lambda r: r.update(status="fine"), "status: expected one of ok, warn, error"),
        (lambda r: r["heatmaps"][0].pop("files"), "heatmaps[0].files: missing"),
        (lambda r: r.pop("inputs"), "has no inputs"),
        (lambda r: r.update(case=None), "case: expected text"),
    ],
)
def test_a_record_that_no_run_writes_is_one_line(case, capsys, change, message):
    changed(case, change)
    assert message in refused(case, capsys)


def test_what_is_no_picture_is_not_embedded(case, capsys):
    (picture,) = case.glob("*.png")
    picture.write_bytes(b"root:x:0:0")
    assert "expected a PNG" in refused(case, capsys)


def test_the_record_of_a_run_of_ours_is_read(case):
    assert main(["report", str(case), "-o", str(case.parent.parent / "r.html"), "--quiet"]) == 0
