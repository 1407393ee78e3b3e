"""What an operator sees: metrics, the audit log, logs without identifiers, what is kept and for how long."""

import io
import json
import logging
import re
import sqlite3
import sys
import threading
import time

import pytest
from prometheus_client.parser import text_string_to_metric_families
from waiting import ended

from anymc3d.cli.main import main
from anymc3d.errors import RunFolderError, UsageError
from anymc3d.serve import history, logs, retention, supervisor
from anymc3d.serve.jobs import DONE, JobStore
from anymc3d.serve.service import Service
from anymc3d.serve.settings import ServeSettings


def metrics_of(client):
    families = text_string_to_metric_families(client.get("/metrics").text)
    return {(one.name, *sorted(one.labels.values())): one.value for family in families for one in family.samples}


def test_metrics_count_answers_refusals_and_time(client, journey):
    before = metrics_of(client)
    job_id = client.post("/v1/jobs", files={"file": journey.scans[1].read_bytes()}).json()["id"]
    row = ended(client, job_id)["rows"][0]
    client.get("/v1/jobs/x")
    client.get("/v1/plugins", headers={"host": "evil.example"})
    after = metrics_of(client)

    def more(*key):
        return after[key] - before.get(key, 0)

    assert more("anymc3d_answers_total", "block", row["status"]) == 1
    assert more("anymc3d_jobs_ended_total", "done", "http") == 1
    assert more("anymc3d_refusals_total", "422") >= 1 and more("anymc3d_refusals_total", "421") == 1
    assert more("anymc3d_work_seconds_count") == 1 and more("anymc3d_wait_seconds_count") == 1
    assert after["anymc3d_ready",] == 1 and after["anymc3d_resident_memory_bytes",] > 1e7
    assert after["anymc3d_oldest_waiting_seconds",] == 0 and after["anymc3d_disk_free_bytes",] > 0


def test_the_audit_log_says_who_when_which_plugin_and_its_hash(client, journey):
    job_id = client.post("/v1/jobs", files={"file": journey.scans[1].read_bytes()}, data={"case": "c-9"}).json()["id"]
    job = ended(client, job_id)
    client.get(f"/v1/jobs/{job_id}/report")
    lines = [line for line in client.get("/v1/audit").json()["lines"] if line["job"] == job_id]
    assert [line["what"] for line in lines] == ["read html", "answered", "sent a study"]
    assert lines[1]["plugin"] == "block" and lines[1]["hash"] == job["record"]["plugins"]["block"]
    assert lines[0]["who"] == "127.0.0.1" and abs(lines[0]["at"] - time.time()) < 120
    assert "c-9" not in json.dumps(lines)


def test_answers_are_compared_with_the_training_data(client, service, journey):
    ended(client, client.post("/v1/jobs", files={"file": journey.scans[1].read_bytes()}).json()["id"])
    service.drift.forget()
    (found,) = client.get("/v1/drift").json()["plugins"]
    assert found["plugin"] == "block" and found["answers"] >= 1
    names = {(one["measure"], one["name"]): one for one in found["comparisons"]}
    assert names["positive", "block"]["reference_of"] == 6 and names["positive", "block"]["reference_count"] == 3
    assert names["outside the training range", "image, median"]["of"] >= 1


@pytest.fixture
def own_log(monkeypatch):
    """What a program's beginning changes of logging and of the last words of exceptions is as before at the end."""
    before = list(logging.getLogger().handlers), logging.getLogger().level
    for place, name in ((sys, "excepthook"), (sys, "unraisablehook"), (threading, "excepthook")):
        monkeypatch.setattr(place, name, getattr(place, name))
    yield
    logging.getLogger().handlers[:], level = before
    logging.getLogger().setLevel(level)
    logging.captureWarnings(False)


def fails(error):
    def function(*_, **__):
        raise error

    return function


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (UsageError("--port 80: cannot listen there"), 2, "--port 80: cannot listen there"),
        (KeyboardInterrupt(), 75, "interrupted before"),
        (ValueError("MEIER^ANNA"), 1, "an internal error ended the service"),
    ],
)
def test_a_service_that_does_not_start_says_so_in_json(own_log, monkeypatch, tmp_path, capfd, error, code, said):
    monkeypatch.setattr("anymc3d.serve.server.listen", fails(error))
    assert main(["serve", "-p", "p.safetensors", "--store", str(tmp_path)]) == code
    printed = capfd.readouterr()
    (line,) = [json.loads(line) for line in printed.err.splitlines()]
    assert line["message"].startswith(said) and "MEIER" not in printed.err and printed.out == ""


def test_what_python_prints_of_an_uncaught_exception_is_json(own_log):
    stream = io.StringIO()
    logs.begin(stream)
    logs.begin_last_words()
    thread = threading.Thread(target=fails(ValueError("MEIER^ANNA")))
    thread.start()
    thread.join()
    sys.excepthook(ValueError, ValueError("MEIER^ANNA"), None)

    class Unwell:
        def __del__(self):
            raise ValueError("MEIER^ANNA")

    Unwell()
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["error"] for line in lines] == ["ValueError"] * 3 and "MEIER" not in stream.getvalue()
    assert "test_operations" in lines[0]["at"][-1]


def test_a_log_line_holds_no_text_of_libraries_exceptions_or_paths(own_log):
    stream = io.StringIO()
    logs.begin(stream)
    logging.getLogger("pydicom").warning("PatientName is MEIER^ANNA")
    try:
        raise ValueError("MEIER^ANNA")
    except ValueError:
        logging.getLogger("anymc3d.serve.x").error("failed", exc_info=True, extra={"job": "ab", "case": "MEIER"})
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert "MEIER" not in stream.getvalue() and len(lines) == 2
    assert lines[0]["message"] == "a message of pydicom" and lines[0]["level"] == "warning"
    assert lines[1]["error"] == "ValueError" and lines[1]["job"] == "ab" and "case" not in lines[1]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", lines[0]["time"])


def test_a_word_in_the_place_of_a_method_is_not_logged(client, caplog):
    caplog.set_level(logging.INFO, "anymc3d.serve")
    assert client.request("MEIER^ANNA", "/v1/jobs").status_code == 405 and client.get("/v1/plugins").is_success
    found = [record.method for record in caplog.records if record.getMessage() == "request"]
    assert "other" in found and "GET" in found and "MEIER" not in str([vars(record) for record in caplog.records])


@pytest.fixture
def store(tmp_path):
    opened = JobStore(tmp_path / "q.sqlite3")
    yield opened
    opened.close()


def test_a_study_that_comes_while_the_queue_is_looked_at_is_not_missed(store, monkeypatch):
    adds = threading.Thread(target=store.add, kwargs={"source": "http", "case": "c", "request": {}})
    look = store._first

    def looked():
        found = look()
        if adds.ident is None:
            adds.start()  # it waits for the lock that take holds until it waits itself
        return found

    monkeypatch.setattr(store, "_first", looked)
    begun = time.monotonic()
    assert store.take(60).case == "c" and time.monotonic() - begun < 30
    adds.join()


def test_those_who_wait_for_a_study_are_told_of_its_end_and_of_no_other(store):
    told, (mine, other) = [], (store.add(source="http", case=name, request={}) for name in "ab")
    store.listeners[lambda: told.append(mine)] = mine
    store.take(), store.take()
    store.finish(other, DONE)
    assert told == []
    store.finish(mine, DONE)
    store.remove(mine)
    assert told == [mine, mine]


def test_what_is_left_of_an_answer_outlives_its_study_and_then_goes(store, monkeypatch):
    job_id = store.add(source="http", case="c", request={})
    assert store.oldest_waiting() is not None
    store.take()
    rows = [{"case": "c", "plugin": "p", "status": "ok", "probability.x": 0.25, "decision.x": 0, "ood_score": 0.7}]
    assert store.finish(job_id, DONE, rows=rows, record={"plugins": {"p": "ff"}}) and store.oldest_waiting() is None
    assert not store.finish(job_id, DONE, rows=rows)
    store.remove(job_id)
    with store.reading() as sql:
        kept = history.Span(sql, "p", 0, time.time() + 1)
        assert (kept.states, kept.decided, kept.mean_probabilities) == ({"ok": 1}, {"x": (0, 1)}, {"x": 0.25})
        assert kept.ood_scores == [0.7] and kept.median_intensities == {}
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            sql.execute("DELETE FROM answers")
    monkeypatch.setattr(history, "KEEP_DAYS", -1.0)
    store.forget_old()
    with store.reading() as sql:
        assert sql.execute("SELECT COUNT(*) FROM answers").fetchone() == (0,)
    assert store.audit.lines() == []


def test_a_clock_that_was_moved_removes_nothing(service, monkeypatch, caplog):
    removed = []
    monkeypatch.setattr(service, "remove_old", lambda: removed.append("studies"))
    monkeypatch.setattr(service.jobs, "forget_old", lambda: removed.append("audit"))
    monkeypatch.setattr(service, "_clock", retention.Clock())
    service.clean()
    assert removed == ["studies", "audit"]
    now = time.time
    for days in (400, -400):
        monkeypatch.setattr(retention.time, "time", lambda days=days: now() + days * 86400)
        service.clean()
        service.clean()
    assert removed == ["studies", "audit"]
    assert [record.message.partition(" days")[0] for record in caplog.records] == ["the clock was moved by +400.0"]
    monkeypatch.setattr(retention.time, "time", now)
    service.clean()
    assert len(removed) == 4, "the right time is trusted again"


def test_a_store_whose_queue_is_gone_is_not_emptied(tmp_path):
    retention.check_not_lost(tmp_path)
    study = tmp_path / "jobs" / "ab" / "ab00" / "results"
    study.mkdir(parents=True)
    with pytest.raises(RunFolderError, match=r"files of 1 study.*is gone; put it back"):
        Service(ServeSettings(plugins=("p.safetensors",), store=tmp_path))
    assert study.is_dir() and not (tmp_path / "queue.sqlite3").exists()
    (tmp_path / "queue.sqlite3").write_bytes(b"x")
    retention.check_not_lost(tmp_path)


def test_D8_a_queue_that_cannot_be_written_for_a_while_costs_no_study(client, service, journey, monkeypatch):
    monkeypatch.setattr(supervisor, "RETRY_S", 0.01)
    finish, full = service.jobs.finish, []

    def finished(*given, **named):
        if len(full) < 2:
            full.append(given)
            raise sqlite3.OperationalError("database or disk is full")
        return finish(*given, **named)

    monkeypatch.setattr(service.jobs, "finish", finished)
    job_id = client.post("/v1/jobs", files={"file": journey.scans[1].read_bytes()}).json()["id"]
    assert ended(client, job_id)["status"] == "done" and len(full) == 2
    assert service.supervisor.is_ready and service.supervisor.fault is None
