"""Output folders belong to one run and one process at a time."""

import multiprocessing
import os
from pathlib import Path

import pytest

from anymc3d.errors import OutputError, RunFolderError
from anymc3d.files import journal
from anymc3d.files.folders import claim, locked


def hold(folder, ready, release):
    with locked(folder):
        ready.set()
        release.wait()


def test_C8_a_second_process_is_refused_and_told_who_holds_the_folder(tmp_path):
    context = multiprocessing.get_context("spawn")
    ready, release = context.Event(), context.Event()
    process = context.Process(target=hold, args=(tmp_path, ready, release))
    process.start()
    try:
        ready.wait()
        with (
            pytest.raises(RunFolderError, match=rf"in use by process {process.pid} on .*, started 20"),
            locked(tmp_path),
        ):
            pass
    finally:
        process.kill()
        process.join()
    with locked(tmp_path):  # a dead run's lock is nobody's
        pass


def test_the_same_identity_may_claim_again_and_another_may_not(tmp_path):
    record = tmp_path / "run.json"
    claim(record, {"settings": {"epochs": 3, "lr": 0.1}}, "a training run")
    claim(record, {"settings": {"epochs": 3, "lr": 0.1}}, "a training run")
    with pytest.raises(RunFolderError, match=r"settings.epochs was 3, now 5"):
        claim(record, {"settings": {"epochs": 5, "lr": 0.1}}, "a training run")


def test_a_folder_with_foreign_files_is_refused(tmp_path):
    (tmp_path / "thesis.docx").write_text("precious")
    with pytest.raises(RunFolderError, match=r"thesis.docx"):
        claim(tmp_path / "run.json", {}, "a training run")


def test_a_damaged_record_is_an_error(tmp_path):
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(RunFolderError, match="damaged"):
        claim(tmp_path / "run.json", {}, "a training run")


def test_what_is_changed_in_place_is_never_somebody_elses_file(tmp_path):
    """A lock is emptied and a journal grows where they lie: not through a link, not into a pipe or a folder."""
    mine = tmp_path / "thesis.docx"
    mine.write_text("precious, without an end of line")
    stand_ins = (lambda path: path.symlink_to(mine), os.mkfifo, Path.mkdir, lambda path: path.symlink_to(path.name))
    for number, make in enumerate(stand_ins):
        folder = tmp_path / f"out{number}"
        folder.mkdir()
        make(folder / ".lock")
        make(folder / "journal.jsonl")
        with (
            pytest.raises(OutputError, match=r"\.lock: .*not a regular file.*remove what is there"),
            locked(folder),
        ):
            pass
        for attempt in (journal.read, lambda path: journal.opened(path).__enter__()):
            with pytest.raises(OutputError, match=r"journal\.jsonl: .*not a regular file.*remove what is there"):
                attempt(folder / "journal.jsonl")
    assert mine.read_text() == "precious, without an end of line"


def test_a_file_in_the_place_of_the_folder_is_wrong_use_in_one_line(tmp_path):
    (tmp_path / "file").write_text("mine")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(RunFolderError, match=r"expected a folder to write in .*; choose another"), locked(folder):
            pass
    assert (tmp_path / "file").read_text() == "mine"
