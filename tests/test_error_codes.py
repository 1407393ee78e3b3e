"""Stable codes of errors: one table, one section of the manual each, and each is used and shown."""

import importlib
import re
from pathlib import Path

import pytest

from anymc3d.cli.main import main
from anymc3d.data.case import Case
from anymc3d.data.case_faults import fault_of
from anymc3d.data.readers import read_volume
from anymc3d.data.scan import named
from anymc3d.error_codes import CODES
from anymc3d.errors import AnyMC3DError, ManifestError, ScanError
from anymc3d.serve.guard import problem

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "troubleshooting.md"


def sections():
    parts = re.split(r"^#{2,3} ", PAGE.read_text(encoding="utf-8"), flags=re.M)[1:]
    cut = (part.partition("\n") for part in parts)
    return {title: " ".join(text.split()) for title, _, text in cut if title.startswith("E-")}


def test_each_code_has_its_section_and_each_section_its_code():
    found = sections()
    assert set(found) == set(CODES)
    for code, kind in CODES.items():
        assert found[code] == f"{kind.meaning} {kind.do}", code
        assert re.fullmatch(r"E-[a-z]+(-[a-z]+)?", code)


def test_each_code_of_the_source_is_in_the_table_and_none_is_there_for_nothing():
    files = (path for path in (ROOT / "src").rglob("*.py") if path.name != "error_codes.py")
    used = {code for path in files for code in re.findall(r"\"(E-[a-z-]+)\"", path.read_text(encoding="utf-8"))}
    assert used == set(CODES)


def kinds_below(cls):
    return {one for sub in cls.__subclasses__() for one in (sub, *kinds_below(sub))}


def test_every_kind_of_error_has_a_code_and_none_is_raised_without_a_kind():
    rooms = ("automl.deadline", "cost.energy", "data.prefetch.process", "serve.jobs", "serve.uploads", "train.launch")
    for name in rooms:
        importlib.import_module(f"anymc3d.{name}")
    ours = {kind for kind in kinds_below(AnyMC3DError) if kind.__module__.startswith("anymc3d")}
    assert len(ours) > 40 and not [kind for kind in ours if kind.code == AnyMC3DError.code]
    for path in (ROOT / "src").rglob("*.py"):
        assert "raise AnyMC3DError(" not in path.read_text(encoding="utf-8"), path


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["predict", "--unknown"], "E-option"),
        (["no-such-command"], "E-option"),
        (["plan", "absent.csv", "--labels", "x", "-o", "task.yaml"], "E-manifest"),
        (["plugin", "show", "absent.safetensors"], "E-plugin"),
    ],
)
def test_a_command_that_fails_says_its_code_on_its_first_line(words, code, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    first = capsys.readouterr().err.splitlines()[0]
    assert first.startswith("error: ") and first.endswith(f"[{code}]")


def test_help_shows_what_a_code_means(capsys):
    assert main(["help", "E-series"]) == 0
    assert CODES["E-series"].do in capsys.readouterr().out
    assert main(["help", "E-serie"]) == 2
    assert "did you mean 'E-series'" in capsys.readouterr().err


def test_a_case_that_failed_keeps_the_code_of_its_scan(tmp_path):
    with pytest.raises(ScanError) as caught, named("image"):
        read_volume(tmp_path / "absent.nii.gz")
    nothing = dict.fromkeys(("split", "fold", "spacing", "center"))
    case = Case(id="a", patient="a", images={}, masks={}, cells={}, row=2, **nothing)
    assert fault_of(caught.value, case).endswith("[E-scan-missing]")
    assert fault_of(ZeroDivisionError(), case).endswith("[E-internal]")


def test_several_problems_have_the_code_on_the_first_line():
    assert ManifestError("m.csv", ["a", "b"]).with_code == "m.csv: 2 problems [E-manifest]\n  - a\n  - b"
    assert AnyMC3DError("x").with_code == "x [E-internal]"
    assert ScanError("x", code="E-strict").with_code == "x [E-strict]"


def test_problem_details_carry_the_code():
    assert problem(422, "no", "E-upload")["code"] == "E-upload" and problem(404, "no")["code"] == "E-request"


def test_what_is_wrong_with_many_rows_is_said_once():
    rows = [f"row {number}: split is empty" for number in range(3, 12)]
    text = str(ManifestError("cases.csv", ["row 1: no scan", *rows, "row 2: split 'tset'", "row 9: no scan"]))
    assert text.splitlines() == [
        "cases.csv: 12 problems",
        "  - row 1: no scan",
        "  - rows 3, 4, 5, 6, 7 and 4 more: split is empty",
        "  - row 2: split 'tset'",
        "  - row 9: no scan",
    ]
