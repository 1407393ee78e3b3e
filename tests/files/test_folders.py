"""Output folders belong to one run and one process at a time."""

import multiprocessing

import pytest

from anymc3d.errors import RunFolderError
from anymc3d.files.folders import claim, locked


def hold(folder, ready, release):
    with locked(folder):
        ready.set()
        release.wait(10)


def test_C8_a_second_process_is_refused_and_told_who_holds_the_folder(tmp_path):
    context = multiprocessing.get_context("spawn")
    ready, release = context.Event(), context.Event()
    process = context.Process(target=hold, args=(tmp_path, ready, release))
    process.start()
    try:
        assert ready.wait(30)
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


def test_a_file_in_the_place_of_the_folder_is_wrong_use_in_one_line(tmp_path):
    (tmp_path / "file").write_text("mine")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(RunFolderError, match=r"expected a folder to write in .*; choose another"), locked(folder):
            pass
    assert (tmp_path / "file").read_text() == "mine"
