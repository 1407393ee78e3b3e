"""The cache keeps within bounds: oldest first, never what a running process uses, safe at any moment."""

from __future__ import annotations

import gc
import multiprocessing
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.context import ForkProcess as Process
from pathlib import Path

import numpy as np
import pytest

from anymc3d.data.cache import Cache, cache_key
from anymc3d.data.cache_size import USERS, cache_state, entry_path, parse_size, trim_cache
from anymc3d.data.preprocess import PreparedView
from anymc3d.errors import UsageError
from anymc3d.settings.views import ViewSettings

VIEW = ViewSettings(size=(14, 14, 4))
HOUR = 3600.0


def prepared() -> PreparedView:
    return PreparedView(slices=np.ones((4, 1, 14, 14), np.float16), affine=np.eye(4), plane="axial")


def key(number: int) -> str:
    return cache_key(str(number), VIEW)


def fill(folder: Path, number: int) -> list[Path]:
    """Entries made by a process that is over; entry i was last used ``number - i`` hours ago."""
    cache = Cache(folder)
    paths = []
    for index in range(number):
        cache.get_or_make(key(index), prepared)
        paths.append(entry_path(folder, f"{key(index)}.safetensors"))
        age(paths[-1], (number - index) * HOUR)
    del cache
    gc.collect()
    return paths


def age(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def test_what_was_used_longest_ago_goes_first_until_the_rest_fits(tmp_path):
    paths = fill(tmp_path, 5)
    size = paths[0].stat().st_size
    done = trim_cache(tmp_path, limit_bytes=2 * size)
    assert [path.exists() for path in paths] == [False, False, False, True, True]
    assert (done.num_removed, done.bytes_removed, done.left.num_entries) == (3, 3 * size, 2)


def test_reading_an_entry_counts_as_its_use(tmp_path):
    paths = fill(tmp_path, 3)
    cache = Cache(tmp_path)
    cache.get_or_make(key(0), prepared)
    del cache
    gc.collect()
    trim_cache(tmp_path, limit_bytes=paths[0].stat().st_size)
    assert [path.exists() for path in paths] == [True, False, False]


def test_what_fits_is_left_alone(tmp_path):
    paths = fill(tmp_path, 3)
    assert trim_cache(tmp_path, limit_bytes=10**9).num_removed == 0
    assert all(path.exists() for path in paths)


def test_clearing_leaves_what_a_living_process_has_used(tmp_path):
    paths = fill(tmp_path, 4)
    running = Cache(tmp_path)
    running.get_or_make(key(1), prepared)
    state = cache_state(tmp_path)
    assert (state.num_entries, state.num_in_use, state.num_processes) == (4, 1, 1)
    done = trim_cache(tmp_path)
    assert [path.exists() for path in paths] == [False, True, False, False]
    assert (done.num_removed, done.left.num_in_use) == (3, 1)
    del running
    gc.collect()
    assert trim_cache(tmp_path).num_removed == 1


def use_the_first(folder: Path, line: Connection) -> None:
    cache = Cache(folder)
    cache.used(entry_path(folder, f"{key(0)}.safetensors"))
    line.send("ready")
    line.poll(None)


@contextmanager
def living_process(folder: Path) -> Iterator[Process]:
    """Another process that has used the first entry and goes on."""
    context = multiprocessing.get_context("fork")
    # A pipe, not an event: an event whose waiter was killed can never be set again.
    ours, theirs = context.Pipe()
    process = context.Process(target=use_the_first, args=(folder, theirs))
    process.start()
    theirs.close()
    assert ours.poll(60)
    yield process
    if process.is_alive():
        ours.send("end")
    process.join()
    ours.close()


def test_another_living_process_is_seen(tmp_path):
    fill(tmp_path, 2)
    with living_process(tmp_path):
        done = trim_cache(tmp_path)
        assert (done.num_removed, done.left.num_in_use, done.left.num_processes) == (1, 1, 1)
    assert trim_cache(tmp_path).num_removed == 1


def test_a_killed_process_holds_nothing(tmp_path):
    fill(tmp_path, 1)
    with living_process(tmp_path) as process:
        process.kill()
        process.join()
    assert len(list((tmp_path / USERS).iterdir())) == 1
    assert cache_state(tmp_path).num_processes == 0
    assert trim_cache(tmp_path).num_removed == 1
    assert list((tmp_path / USERS).iterdir()) == []


def test_what_a_killed_writer_left_goes_and_a_writer_at_work_is_left(tmp_path):
    fill(tmp_path, 1)
    old, new = tmp_path / ".a.safetensors.x1.part", tmp_path / ".b.safetensors.x2.part"
    for path in (old, new):
        path.write_bytes(b"half")
    age(old, 48 * HOUR)
    trim_cache(tmp_path, limit_bytes=10**9)
    assert not old.exists() and new.exists()


def test_only_entries_are_ever_removed(tmp_path):
    fill(tmp_path, 1)
    (tmp_path / ".in-use").mkdir(exist_ok=True)
    (tmp_path / ".in-use" / "folder").mkdir()
    (tmp_path / ".in-use" / "link").symlink_to("nothing")
    own = tmp_path / "notes.txt"
    own.write_text("mine")
    trim_cache(tmp_path)
    assert own.exists()


def test_a_cache_that_is_not_there_is_empty(tmp_path):
    state = cache_state(tmp_path / "absent")
    assert (state.num_entries, state.num_bytes) == (0, 0)
    assert trim_cache(tmp_path / "absent").num_removed == 0
    assert not (tmp_path / "absent").exists()


def trim_often(folder: Path) -> None:
    for _ in range(40):
        trim_cache(folder)


def read_often(folder: Path) -> None:
    for _ in range(12):
        cache = Cache(folder)
        for index in range(10):
            assert cache.get_or_make(key(index), prepared).slices.shape == (4, 1, 14, 14)
        del cache


def test_C7_many_trimmers_and_readers_at_once_never_break(tmp_path):
    """Removing beside readers costs time, never a wrong or half entry, and no one fails."""
    fill(tmp_path, 10)
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=work, args=(tmp_path,)) for work in (trim_often, read_often) * 2]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("text", "size"),
    [("20GB", 20 * 10**9), ("500 mb", 5 * 10**8), ("1.5GiB", 3 * 2**29), ("4096", 4096), ("0", 0), ("2TB", 2 * 10**12)],
)
def test_sizes_are_read(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "many", "20 G", "-1GB", "1e3", "20GBs", "nan"])
def test_other_texts_are_no_size(text):
    with pytest.raises(UsageError, match="such as 20GB"):
        parse_size(text)


def test_facts_of_scans_count_as_used_when_they_are_read(tmp_path):
    """Else a long run would lose them first and measure every scan again."""
    from scan_makers import anatomy, nifti_bytes

    from anymc3d.data.case import Case
    from anymc3d.data.case_scans import CaseScans

    (tmp_path / "a.nii").write_bytes(nifti_bytes(anatomy()))
    case = Case("a", "a", {"image": str(tmp_path / "a.nii")}, {}, {}, None, None, None, None, 2)
    cache = Cache(tmp_path / "cache")
    CaseScans(case, cache).prepare({"image": VIEW})
    for path in (tmp_path / "cache").rglob("*.*"):
        age(path, HOUR)
    CaseScans(case, cache).prepare({"image": VIEW})
    assert cache_state(tmp_path / "cache").num_in_use == cache_state(tmp_path / "cache").num_entries == 2


def test_no_folder_has_too_many_entries_and_those_of_earlier_versions_are_found(tmp_path):
    places = [entry_path(tmp_path, f"{key(number)}.safetensors").parent for number in range(4000)]
    assert max(places.count(place) for place in set(places)) < 50, "a million entries: some 4,000 in each"
    (path,) = fill(tmp_path, 1)
    path.rename(tmp_path / path.name)
    assert cache_state(tmp_path).num_entries == 1
    cache = Cache(tmp_path)
    cache.get_or_make(key(0), lambda: pytest.fail("it was there"))
    assert path.exists() and not (tmp_path / path.name).exists()
