"""A disk without room, a damaged queue, a study that is removed while it is read: nothing is lost or left over."""

import logging
import sqlite3
from types import SimpleNamespace

import pytest
from senders import association, study
from waiting import ended

from anymc3d.errors import ServiceError
from anymc3d.serve.jobs import JobStore
from anymc3d.serve.metrics import Metrics
from anymc3d.serve.settings import ServeSettings
from anymc3d.serve.supervisor import Supervisor


def send(client, journey, **headers):
    return client.post("/v1/jobs", files={"file": journey.scans[1].read_bytes()}, headers=headers)


def no_room(*_, **__):
    raise sqlite3.OperationalError("database or disk is full")


@pytest.fixture(scope="module")
def answered(url, journey):
    import httpx

    with httpx.Client(base_url=url, timeout=60) as client:
        return ended(client, send(client, journey).json()["id"])["id"]


def test_D8_on_a_full_disk_requests_say_so_and_leave_nothing(client, service, journey, answered, monkeypatch):
    folders = sorted((service.settings.store / "jobs").glob("??/*"))
    with monkeypatch.context() as full:
        for owner, name in ((service.jobs.audit, "note"), (service.jobs, "add"), (service.jobs, "remove")):
            full.setattr(owner, name, no_room)
        for answer in (client.get(f"/v1/jobs/{answered}/report"), send(client, journey)):
            assert (answer.status_code, answer.json()["code"]) == (503, "E-disk-full")
        assert sorted((service.settings.store / "jobs").glob("??/*")) == folders
        # What the message advises makes room, though the queue cannot be written yet.
        assert client.delete(f"/v1/jobs/{answered}").status_code == 503 and not service.folder(answered).exists()
    assert client.delete(f"/v1/jobs/{answered}").status_code == 204


def test_a_study_that_is_removed_while_it_is_read_leaves_no_file(client, service, journey, monkeypatch):
    ask, removed = service.supervisor._ask, []

    def removed_meanwhile(request):
        reply = ask(request)
        (job,) = (job for job in service.jobs.latest() if job.state == "running")
        service.remove(job.id)
        service.results(job.id).mkdir(parents=True)  # as where the worker writes once more
        removed.append(job.id)
        return reply

    with monkeypatch.context() as patch:
        patch.setattr(service.supervisor, "_ask", removed_meanwhile)
        assert client.get(f"/v1/jobs/{send(client, journey).json()['id']}", params={"wait": 60}).status_code == 404
        patch.undo()
        ended(client, send(client, journey).json()["id"])  # until the one before is over and done
    assert removed and not service.folder(removed[0]).exists()


def test_a_damaged_queue_says_what_to_do(tmp_path):
    path = tmp_path / "queue.sqlite3"
    store = JobStore(path)
    store.add(source="http", case="c", request={})
    store.close()
    content = bytearray(path.read_bytes())
    content[4096 : 4096 + 2000] = b"\xff" * 2000  # the first page after the list of tables
    path.write_bytes(content)
    with pytest.raises(ServiceError, match=r"it is damaged .*; put it back from a backup, or choose another --store"):
        JobStore(path)


def test_a_queue_that_is_damaged_at_work_ends_the_service(tmp_path, caplog):
    store, told = JobStore(tmp_path / "queue.sqlite3"), []
    supervisor = Supervisor(store, ServeSettings(plugins=("p",), store=tmp_path))
    store.take = lambda *_: (_ for _ in ()).throw(sqlite3.DatabaseError("database disk image is malformed"))
    supervisor.is_ready, supervisor.on_fault = True, lambda: told.append(supervisor.is_ready)
    supervisor._run()
    assert told == [False] and isinstance(supervisor.fault, sqlite3.DatabaseError)
    store.close()


def test_what_has_begun_to_come_may_end_where_no_study_more_may_wait(service, monkeypatch):
    made, other = study(311), study(312)
    with monkeypatch.context() as patch, association(service, made.slices) as opened:
        statuses = [opened.send_c_store(made.slices[0]).Status]
        patch.setattr(type(service.jobs), "is_full", property(lambda _: True))
        statuses += [opened.send_c_store(one).Status for one in made.slices[1:3]]
        assert statuses == [0, 0, 0] and opened.send_c_store(other.slices[0]).Status == 0xA700


def test_no_word_of_a_client_is_a_label_of_a_metric_or_stands_for_its_address(client, service, journey):
    job = service.jobs.get(ended(client, send(client, journey, **{"x-forwarded-for": "<b>Meier"}).json()["id"])["id"])
    line = next(line for line in service.jobs.audit.lines() if line["job"] == job.id and line["what"] == "sent a study")
    assert line["who"] == "unknown"
    metrics = Metrics(service)
    metrics.ended(SimpleNamespace(source="stow 10.1.2.3", state="done", rows=[], started=None, finished=None))
    assert b'source="stow"' in metrics.text() and b"10.1.2.3" not in metrics.text()


def test_the_web_server_has_no_log_of_its_own(url):
    assert not [name for name in ("uvicorn", "uvicorn.error") if logging.getLogger(name).handlers]
