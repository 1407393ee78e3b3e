"""The watched folder: what is quiet is answered and moved, once, across restarts and where nothing can be moved too."""

import errno
import json
import os
import shutil
import time

import pytest

import dicom_makers as dicom
from anymc3d.errors import OutputError, UsageError
from anymc3d.serve import watch
from anymc3d.serve.jobs import DONE, ERROR, JobStore, new_id
from anymc3d.serve.settings import ServeSettings
from anymc3d.serve.watch import Watcher


class Answering:
    """A service whose worker answers at once: an error for what has a fault, files and rows for the rest."""

    def __init__(self, store, **changed):
        self.settings = ServeSettings(plugins=("p",), store=store, **changed)
        store.mkdir(exist_ok=True)
        self.jobs = JobStore(store / "queue.sqlite3")

    def folder(self, job_id):
        return self.settings.store / "jobs" / job_id[:2] / job_id

    def results(self, job_id):
        return self.folder(job_id) / "results"

    def submit(self, *, job_id, source, case, scan, fault, key):
        self.jobs.add(source=source, case=case, request={"scan": str(scan)}, job_id=job_id, key=key)
        self.jobs.take()
        if not fault:
            self.results(job_id).mkdir()
            (self.results(job_id) / "p.html").write_text("report")
        state, files = (ERROR, []) if fault else (DONE, ["p.html"])
        self.jobs.finish(
            job_id, state, message=fault, rows=[{"case": case, "plugin": "p", "status": "ok"}], record={"files": files}
        )


def looked(service, folder, times=4):
    """A new watcher, as after a restart, that looks several times."""
    watcher = Watcher(service, folder, quiet_s=0.05)
    for _ in range(times):
        watcher.look()
        time.sleep(0.06)
    return service.jobs.latest()


@pytest.fixture
def service(tmp_path):
    made = Answering(tmp_path / "store", max_upload_bytes=100_000)
    yield made
    made.jobs.close()


def test_files_and_folders_are_answered_once_and_moved_with_their_results(service, journey, tmp_path):
    watched = tmp_path / "watched"
    dicom.make_series().write(watched / "study")
    (watched / "scan.nii.gz").write_bytes(journey.scans[0].read_bytes())
    (watched / "notes.txt").write_text("no scan" * 100)
    (watched / "large.nii.gz").write_bytes(b"\x1f\x8b" + bytes(200_000))
    (watched / ".hidden").mkdir()
    (watched / "link").symlink_to(watched / "study")
    jobs = looked(service, watched)
    assert len(jobs) == 4 and {job.source for job in jobs} == {"watch"}
    assert sorted(os.listdir(watched)) == [".hidden", "done", "failed", "link"]
    assert sorted(os.listdir(watched / "done")) == [
        *("scan.nii.gz", "scan.nii.gz.json", "scan.nii.gz.results", "study", "study.json", "study.results")
    ]
    assert len(os.listdir(watched / "done" / "study")) == 8
    assert (watched / "done" / "study.results" / "p.html").read_text() == "report"
    assert json.loads((watched / "failed" / "notes.txt.json").read_text())["message"].startswith("file: expected one")
    assert "larger" in json.loads((watched / "failed" / "large.nii.gz.json").read_text())["message"]
    copied = [path for path in service.settings.store.rglob("input/**/*") if path.is_file()]
    assert len(copied) == 9 and not [path for path in copied if "PHI" in str(path)]
    dicom.make_series().write(watched / "study")
    assert len(looked(service, watched)) == 5 and len(os.listdir(watched / "done")) == 9


def test_links_that_are_put_in_place_of_files_or_folders_lead_nowhere(service, tmp_path, monkeypatch):
    watched, other = tmp_path / "watched", tmp_path / "other"
    watched.mkdir(), other.mkdir()
    (other / "secret.nii.gz").write_bytes(b"\x1f\x8b" + bytes(500))
    (watched / "done").symlink_to(other)
    (watched / "a.nii.gz").write_bytes(b"\x1f\x8b" + bytes(500))
    (watched / "b.nii.gz").symlink_to(other / "secret.nii.gz")
    monkeypatch.setattr(watch, "_is_passed_over", lambda entry: entry.name in ("done", "failed"))
    monkeypatch.setattr(watch, "_regular", lambda path: iter([path]))  # the look came before the link
    jobs = looked(service, watched)
    assert {job.state for job in jobs} == {DONE, ERROR} and len(jobs) == 2
    assert [job.message for job in jobs if job.state == ERROR] == [
        "it cannot be read (Too many levels of symbolic links)"
    ]
    assert os.listdir(other) == ["secret.nii.gz"] and (watched / "a.nii.gz").exists()


def test_what_grows_is_waited_for(service, tmp_path):
    folder = tmp_path / "watched" / "study"
    slices = dicom.make_series().slices
    watcher = None
    for number, dataset in enumerate(slices):
        folder.mkdir(parents=True, exist_ok=True)
        dicom.save(dataset, folder / f"{number}.dcm")
        watcher = watcher or Watcher(service, folder.parent, quiet_s=0.05)
        time.sleep(0.06)
        watcher.look()
    assert service.jobs.latest() == []
    assert len(looked(service, folder.parent)) == 1


def test_a_folder_that_cannot_be_written_to_is_read_once(service, journey, tmp_path, monkeypatch):
    watched = tmp_path / "watched"
    watched.mkdir()
    (watched / "scan.nii.gz").write_bytes(journey.scans[0].read_bytes())

    def refused(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("anymc3d.serve.watch.os.rename", refused)
    (job,) = looked(service, watched)
    service.jobs.remove(job.id)
    assert looked(service, watched) == [] and (watched / "scan.nii.gz").exists()
    os.utime(watched / "scan.nii.gz", ns=(1, 1))
    assert len(looked(service, watched)) == 1


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), OutputError("no room")])
def test_D8_an_answer_that_a_full_disk_does_not_take_is_put_there_later(service, journey, tmp_path, monkeypatch, error):
    watched = tmp_path / "watched"
    watched.mkdir()
    shutil.copy(journey.scans[0], watched / "a.nii.gz")
    write, full = watch.atomic.write_json, [error]

    def written(*given):
        if full:
            raise full.pop()
        write(*given)

    monkeypatch.setattr(watch.atomic, "write_json", written)
    monkeypatch.setattr(watch, "_FULL_PAUSE_S", 0.0)
    assert len(looked(service, watched, times=6)) == 1
    assert sorted(path.name for path in (watched / "done").iterdir()) == [
        "a.nii.gz",
        "a.nii.gz.json",
        "a.nii.gz.results",
    ]


def test_a_folder_that_is_not_there_is_refused(service, tmp_path):
    with pytest.raises(UsageError, match="expected a folder"):
        Watcher(service, tmp_path / new_id(), quiet_s=1)
