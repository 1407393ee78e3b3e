"""One meaning of --quiet for every command, and --json that gives numbers as numbers."""

from __future__ import annotations

import ast
import json
import re
import tomllib
from pathlib import Path

import pytest

from anymc3d.benchmark import systems
from anymc3d.cli import doctor
from anymc3d.cli.cells import metric_record, prediction_record
from anymc3d.cli.main import COMMANDS, main, parser_of
from anymc3d.cli.parser import QUIET
from anymc3d.cli.say import answer, hushed, say, say_text, warn
from anymc3d.settings.extras import EXTRAS, Extra

ROOT = Path(__file__).resolve().parents[2]


def printed(capsys, *words):
    code = main([str(word) for word in words])
    return code, capsys.readouterr().out


def test_what_is_done_is_not_said_and_what_was_asked_for_is(capsys):
    with hushed(True):
        say("trained")
        say_text("a\nb")
        answer("a list")
        warn("careful")
    say("trained")
    read = capsys.readouterr()
    assert (read.out, read.err) == ("a list\ntrained\n", "warning: careful\n")


def test_every_command_says_the_same_of_quiet():
    for command in COMMANDS:
        parser = parser_of(command)
        for leaf in parser.actions().values() or [parser]:
            own = {text: action.help for action in leaf._actions for text in action.option_strings}
            assert own["--quiet"] == QUIET
            assert {"-v", "--verbose", "--debug"} <= own.keys()


def test_nothing_prints_past_the_module_that_knows_quiet():
    for path in (ROOT / "src" / "anymc3d" / "cli").glob("*.py"):
        calls = [ast.unparse(node.func) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        assert path.name == "say.py" or not {"print", "sys.stdout.write"} & set(calls), path.name


@pytest.mark.parametrize("words", [("data", "list"), ("data", "cache"), ("benchmark", "--list-tasks")])
def test_a_list_that_was_asked_for_comes_with_quiet_too(capsys, words):
    assert printed(capsys, *words, "--quiet") == printed(capsys, *words)


def test_a_split_is_silent_with_quiet_and_counts_in_json(capsys, journey, tmp_path):
    words = [
        "data",
        "split",
        journey.data / "manifest.csv",
        "--labels",
        "block",
        "--overwrite",
        "-o",
        tmp_path / "m.csv",
    ]
    assert printed(capsys, *words, "--quiet") == (0, "")
    assert "block {0: " in printed(capsys, *words)[1]
    found = json.loads(printed(capsys, *words, "--json")[1])
    assert sum(sum(part["block"].values()) for part in found["parts"]) == 20


def test_predictions_come_as_numbers(capsys, journey, tmp_path):
    words = ["predict", "-p", journey.plugin, "-i", journey.scans[0], "-o", tmp_path / "out", "--device", "cpu"]
    (row,) = json.loads(printed(capsys, *words, "--json", "--quiet")[1])
    assert isinstance(row["logit.block"], float) and isinstance(row["probability.block"], float)
    assert row["decision.block"] in (0, 1) and isinstance(row["ood_score"], float)
    assert row["case"] == "case00"


def test_cells_become_what_they_are():
    row = {
        "case": "007",
        "message": "",
        "logit.a": "-1.5e-3",
        "decision.a": "not answered",
        "ood_score": "",
        "set.a": "1",
    }
    assert prediction_record(row) == {**row, "logit.a": -0.0015, "ood_score": None}
    assert prediction_record({"decision.a": "1", "value.b": "3"}) == {"decision.a": 1, "value.b": 3}
    row = {"metric": "auroc", "label": "1", "value": "0.5", "ci_low": "", "n": "12", "n_positive": 3}
    assert metric_record(row) == {**row, "value": 0.5, "ci_low": None, "n": 12}


def test_methods_without_a_count_have_null():
    assert {record["trainable_parameters"] for record in systems._plain()} == {None}
    assert any("scan-statistics  " in line and "None" not in line for line in systems.system_lines([*systems._plain()]))


def test_no_json_of_a_command_holds_a_number_as_text(capsys, journey, tmp_path):
    """Of the commands that are quick: no text that is a number, but where the key says that it is a name."""
    manifest, plugin, answers = journey.data / "manifest.csv", journey.plugin, tmp_path / "out"
    split = journey.run / "manifest.csv"
    printed(capsys, "predict", "-p", plugin, "-i", split, "--split", "test", "-o", answers, "--quiet")
    commands = [
        ("doctor",),
        ("data", "list"),
        ("data", "cache"),
        ("backbone", "show", "tiny-random"),
        ("benchmark", "--list-tasks"),
        ("plugin", "show", plugin),
        ("plan", manifest, "--labels", "block", "-o", tmp_path / "task.yaml", "--no-timing"),
        ("evaluate", answers / "predictions.csv", split, "-o", tmp_path / "results"),
    ]
    names = ("name", "classes", "label", "what", "version", "id", "columns", "values")
    for words in commands:
        code, out = printed(capsys, *words, "--json")
        assert code == 0, words
        for place, text in texts(json.loads(out)):
            is_number = re.fullmatch(r"[-+]?\d+(\.\d+)?(e[-+]?\d+)?", text)
            assert not is_number or any(name in place for name in names), (words, place, text)


def texts(value, place=""):
    """(keys on the way, text) of all texts in a JSON value."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from texts(inner, f"{place}.{key}")
    elif isinstance(value, list):
        for inner in value:
            yield from texts(inner, place)
    elif isinstance(value, str):
        yield place, value


def test_the_extras_are_those_of_the_package_and_each_has_its_line():
    described = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(EXTRAS) == set(described) - {"all", "test", "benchmark"}
    readme = (ROOT / "README.md").read_text()
    assert not [name for name in EXTRAS if f"`{name}`" not in readme]


def test_doctor_lists_optional_parts_and_what_is_to_do(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("ANYMC3D_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(doctor, "EXTRAS", {"here": Extra("it is", ("json",)), "gone": Extra("it", ("no.such.module",))})
    code, out = printed(capsys, "doctor")
    assert code == 0
    assert re.search(r"^to do  backbones in the store: none yet.*anymc3d backbone get", out, re.M)
    assert re.search(r"^present  here +it is$", out, re.M)
    assert re.search(r"^missing  gone +it; pip install 'anymc3d\[gone\]'$", out, re.M)
    found = {one["what"]: one for one in json.loads(printed(capsys, "doctor", "--json")[1])}
    assert found["backbones in the store"]["state"] == "to do"
    assert (found["here"]["state"], found["gone"]["state"], found["gone"]["kind"]) == ("present", "missing", "extra")
    assert printed(capsys, "doctor", "--quiet") == (0, "")
    monkeypatch.setattr(doctor, "PACKAGES", ("no-such-package",))
    code, out = printed(capsys, "doctor", "--quiet")
    assert code == 2 and out.startswith("FAIL   no-such-package: missing")
