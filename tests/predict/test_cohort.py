"""Many cases into one folder: no case ends the run, no answer is lost, what cannot be written is said in one line."""

import json
import os
import resource
import shutil
import signal
import sys
import time
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch

import anymc3d.data.scan
from anymc3d.cli.main import main
from anymc3d.data.manifest import read_manifest
from anymc3d.data.memory_limit import memory_limit
from anymc3d.data.time_limit import TooSlowError, time_limit
from anymc3d.errors import OutputError, RunFolderError, TooLargeError
from anymc3d.files.tables import read_table
from anymc3d.predict.cohort import precision_in, predict_cohort, read_journal
from anymc3d.predict.predictor import load


@pytest.fixture(scope="module")
def predictor(journey):
    return load(journey.plugin, device="cpu")


@pytest.fixture(scope="module")
def cases(journey):
    return read_manifest(journey.data / "manifest.csv").cases


def ids(out):
    return [row["case"] for row in read_table(out / "predictions.csv")]


def content(out):
    return (out / "predictions.csv").read_bytes()


@contextmanager
def files_of_at_most(count):
    """As ``ulimit -f``: writing beyond fails as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (count, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("error", [ValueError("box"), KeyError("x"), OSError(5, "Input/output error"), Exception()])
def test_D1_whatever_one_case_raises_the_others_are_answered(predictor, cases, tmp_path, monkeypatch, error):
    calm = predict_cohort(predictor, cases[:4], tmp_path / "calm", quiet=True).rows
    prepare, seen = anymc3d.data.scan.prepare_view, []

    def break_the_second(*given):
        seen.append(given)
        if len(seen) == 2:
            raise error
        return prepare(*given)

    monkeypatch.setattr("anymc3d.data.scan.prepare_view", break_the_second)
    result = predict_cohort(predictor, cases[:4], tmp_path / "out", quiet=True)
    assert result.exit_code == 3
    assert result.rows[1]["status"] == "error" and type(error).__name__ in result.rows[1]["message"]
    assert [result.rows[i] for i in (0, 2, 3)] == [calm[i] for i in (0, 2, 3)]
    predict_cohort(predictor, cases[:4], tmp_path / "out", quiet=True)
    assert content(tmp_path / "out") == content(tmp_path / "calm"), "the same command tries what failed again"


def test_earlier_answers_stay_in_the_table_after_those_of_this_run(predictor, cases, tmp_path, capsys, journey):
    one, two = tmp_path / "one", tmp_path / "two"
    predict_cohort(predictor, cases[3:5], one, quiet=True)
    before = {row["case"]: row for row in read_table(one / "predictions.csv")}
    result = predict_cohort(predictor, cases[1:3], one, quiet=True)
    assert ids(one) == [cases[i].id for i in (1, 2, 3, 4)]
    assert [row["case"] for row in result.rows] == [cases[1].id, cases[2].id] and result.earlier == 2
    assert {row["case"]: row for row in read_table(one / "predictions.csv")}.items() >= before.items()
    predict_cohort(predictor, [cases[4]], two, quiet=True)
    predict_cohort(predictor, [cases[3]], two, quiet=True)
    predict_cohort(predictor, cases[1:3], two, quiet=True)
    assert content(one) == content(two), "in whatever order the earlier ones came"
    words = ["predict", "-p", str(journey.plugin), "-i", str(journey.scans[0]), "-o", str(one)]
    assert main(words) == 0
    assert "4 rows of earlier runs into this folder stay at the end of the table" in capsys.readouterr().out


def test_a_resumed_run_reads_no_scan_that_its_file_system_says_is_unchanged(predictor, cases, tmp_path, monkeypatch):
    monkeypatch.setattr("anymc3d.data.file_marks.SETTLED_SECONDS", -3600.0)  # so that new files count as old
    copied = [shutil.copy(case.images["image"], tmp_path) for case in cases[:3]]
    mine = [replace(case, images={"image": str(path)}) for case, path in zip(cases[:3], copied, strict=True)]
    predict_cohort(predictor, mine, tmp_path / "out", quiet=True)
    read, whole = [], anymc3d.data.scan.content_hash
    monkeypatch.setattr(
        "anymc3d.data.scan.content_hash", lambda path, **given: read.append(path) or whole(path, **given)
    )
    assert predict_cohort(predictor, mine, tmp_path / "out", quiet=True).computed == 0 and read == []
    shutil.copy(cases[5].images["image"], copied[1])
    assert predict_cohort(predictor, mine, tmp_path / "out", quiet=True).computed == 1 and set(read) == {str(copied[1])}


def test_another_scan_under_the_same_id_is_said(predictor, cases, tmp_path, caplog):
    predict_cohort(predictor, cases[:2], tmp_path / "out", quiet=True)
    other = replace(cases[0], images=cases[5].images)
    predict_cohort(predictor, [other], tmp_path / "out", quiet=True)
    assert "1 cases had answers of other (or changed) scans" in caplog.text and cases[0].id in caplog.text
    caplog.clear()
    predict_cohort(predictor, [other], tmp_path / "out", quiet=True)
    assert not caplog.text
    assert len(ids(tmp_path / "out")) == 2


def test_a_damaged_line_of_the_journal_costs_its_case_alone(predictor, cases, tmp_path, caplog):
    out = tmp_path / "out"
    predict_cohort(predictor, cases[:3], out, quiet=True)
    whole, lines = content(out), (out / "journal.jsonl").read_bytes().splitlines(keepends=True)
    digit = lines[0].index(b"logit.block") + len(b'logit.block": "0.')
    lines[0] = lines[0][:digit] + bytes([lines[0][digit] ^ 1]) + lines[0][digit + 1 :]
    (out / "journal.jsonl").write_bytes(b"".join(lines))
    assert len(read_journal(out / "journal.jsonl")) == 2
    assert "1 damaged lines are left out" in caplog.text
    with pytest.raises(RunFolderError, match=rf"holds 1 cases that journal.jsonl has lost: {cases[0].id}; give their"):
        predict_cohort(predictor, cases[3:4], out, quiet=True)
    assert content(out) == whole, "the only place where that answer still stands"
    assert predict_cohort(predictor, cases[:3], out, quiet=True).computed == 1
    assert content(out) == whole


@pytest.mark.parametrize("most", [10, 700, 1500])
def test_D8_a_file_that_cannot_grow_ends_the_run_in_one_line_and_the_same_command_goes_on(
    journey, predictor, cases, tmp_path, capsys, most
):
    calm, out = tmp_path / "calm", tmp_path / "out"
    predict_cohort(predictor, cases, calm, quiet=True)
    words = ["predict", "-p", str(journey.plugin), "-i", str(journey.data / "manifest.csv"), "-o", str(out)]
    with files_of_at_most(most):
        code = main([*words, "--device", "cpu", "--quiet"])
    err = capsys.readouterr().err
    assert code == 2 and err.count("\n") == 1
    assert str(out) in err and "File too large" in err and "bytes" in err and "run the same command again" in err
    assert main([*words, "--device", "cpu", "--quiet"]) == 0
    assert content(out) == content(calm)
    assert not list(out.glob("*.part"))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the limit is one of Linux")
def test_a_scan_that_takes_too_much_memory_is_an_error_and_the_next_has_its_turn(journey, cases, tmp_path, monkeypatch):
    prepare, seen = anymc3d.data.scan.prepare_view, []

    def take_much_at_the_first(*given):
        seen.append(given)
        if len(seen) == 1:
            np.ones(2**30, np.uint8).sum()
        return prepare(*given)

    monkeypatch.setattr("anymc3d.data.scan.prepare_view", take_much_at_the_first)
    before = resource.getrlimit(resource.RLIMIT_DATA)
    words = ["predict", "-p", str(journey.plugin), "-i", *(case.images["image"] for case in cases[:2])]
    words += ["-o", str(tmp_path / "out"), "--device", "cpu", "--case-memory", "500MB"]
    assert main(words) == 3
    rows = read_table(tmp_path / "out" / "predictions.csv")
    assert [row["status"] for row in rows] == ["error", "ok"]
    assert "more than 0.5 GB of memory needed (--case-memory)" in rows[0]["message"]
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
    assert main([*words[:-1], "0"]) == 2


def test_what_libraries_say_of_memory_is_known(monkeypatch):
    with memory_limit(10**8), pytest.raises(TooLargeError), memory_limit(10**7):
        torch.ones(10**9)
    with pytest.raises(TooLargeError), memory_limit(10**7):
        raise RuntimeError("std::bad_alloc")
    with pytest.raises(ValueError, match="another"), memory_limit(10**7):
        raise ValueError("another fault")


def test_D6_a_scan_that_takes_too_long_is_an_error_and_the_next_has_its_turn(
    journey, cases, tmp_path, monkeypatch, capsys
):
    prepare, seen = anymc3d.data.scan.prepare_view, []

    def sleep_at_the_first(*given):
        seen.append(given)
        if len(seen) == 1:
            time.sleep(600)
        return prepare(*given)

    monkeypatch.setattr("anymc3d.data.scan.prepare_view", sleep_at_the_first)
    words = ["predict", "-p", str(journey.plugin), "-i", *(case.images["image"] for case in cases[:2])]
    words += ["-o", str(tmp_path / "out"), "--device", "cpu", "--timeout", "6"]
    assert main(words) == 3
    rows = read_table(tmp_path / "out" / "predictions.csv")
    assert [row["status"] for row in rows] == ["error", "ok"]
    assert rows[0]["message"].startswith("no answer within 6 s (--timeout)")
    assert main(words) == 0, "it is tried again"
    assert main([*words, "--timeout", "0"]) == 2
    assert "--timeout: expected seconds above 0" in capsys.readouterr().err


def test_D6_a_pipe_nobody_writes_into_is_given_up(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    handler, timer = signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL)
    with pytest.raises(TooSlowError, match=r"within 0\.2 s"), time_limit(0.2):
        (tmp_path / "pipe").read_bytes()
    with time_limit(None):
        pass
    assert signal.getsignal(signal.SIGALRM) == handler
    assert (signal.getitimer(signal.ITIMER_REAL)[0] > 0) == (timer[0] > 0), "an alarm that was set goes on"


def test_D8_a_folder_that_goes_away_is_not_made_anew(predictor, cases, tmp_path, monkeypatch):
    out, done = tmp_path / "out", []
    predict_case = predictor.predict_case

    def and_remove(case, **named):
        done.append(case)
        if len(done) == 2:
            shutil.rmtree(out)
        return predict_case(case, **named)

    monkeypatch.setattr(predictor, "predict_case", and_remove)
    with pytest.raises(OutputError, match="removed while this command was at work"):
        predict_cohort(predictor, cases[:4], out, quiet=True)
    assert not out.exists() and len(done) == 2


def test_a_run_keeps_the_number_format_in_which_it_began(journey, predictor, cases, tmp_path, monkeypatch):
    out = tmp_path / "out"
    monkeypatch.setattr("anymc3d.predict.predictor.number_format", lambda precision, _: "bf16")
    predict_cohort(load(journey.plugin, device="cpu", precision="auto"), cases[:1], out, precision="auto", quiet=True)
    assert json.loads((out / "predict.json").read_text())["number_format"] == "bf16"
    monkeypatch.undo()
    assert precision_in(out, "auto") == "bf16"
    assert precision_in(out, "fp32") == "fp32" and precision_in(tmp_path / "new", "auto") == "auto"
    with pytest.raises(RunFolderError, match="number_format was 'bf16', now 'fp32'"):
        predict_cohort(predictor, cases[:2], out, precision="auto", quiet=True)


def test_a_folder_of_before_there_was_a_number_format_goes_on(predictor, cases, tmp_path):
    out = tmp_path / "out"
    predict_cohort(predictor, cases[:1], out, quiet=True)
    record = json.loads((out / "predict.json").read_text())
    old = {key: value for key, value in record.items() if key != "number_format"}
    (out / "predict.json").write_text(json.dumps(old))
    predict_cohort(predictor, cases[:2], out, quiet=True)
    assert json.loads((out / "predict.json").read_text()) == record


def test_G6_nothing_of_a_prediction_is_open_to_others(journey, tmp_path):
    before = os.umask(0)
    try:
        words = ["predict", "-p", str(journey.plugin), "-i", str(journey.scans[0]), "--device", "cpu", "--quiet"]
        assert main([*words, "-o", str(tmp_path / "new" / "parents" / "out")]) == 0
    finally:
        os.umask(before)
    made = [tmp_path / "new", *(tmp_path / "new").rglob("*")]
    assert len(made) > 6 and not [path for path in made if path.stat().st_mode & 0o077]
