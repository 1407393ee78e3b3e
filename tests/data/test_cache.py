"""The cache gives back the bits that were put in, or makes them again; never anything else."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import stat
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from anymc3d.data.cache import Cache, cache_key
from anymc3d.data.cache_size import USERS, entry_path
from anymc3d.data.preprocess import CODE_VERSION, PreparedView
from anymc3d.errors import OutputError, RunFolderError
from anymc3d.settings.views import ViewSettings
from damage import STAND_INS

VIEW = ViewSettings(size=(14, 14, 4))
KEY = cache_key("abc", VIEW)


def prepared(seed: int = 0, size: int = 14) -> PreparedView:
    generator = np.random.default_rng(seed)
    slices = generator.random((4, 1, size, size)).astype(np.float16)
    return PreparedView(slices=slices, affine=generator.normal(size=(4, 4)), plane="coronal")


def same(one: PreparedView, other: PreparedView) -> bool:
    return (
        one.slices.tobytes() == other.slices.tobytes()
        and one.slices.shape == other.slices.shape
        and one.affine.tobytes() == other.affine.tobytes()
        and one.plane == other.plane
    )


def never() -> PreparedView:
    raise AssertionError("the entry is there and whole, it must not be made again")


def entry(cache: Cache) -> Path:
    return entry_path(cache.folder, f"{KEY}.safetensors")


def test_an_entry_comes_back_bit_by_bit(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "deep" / "cache")
    assert same(cache.get_or_make(KEY, prepared), prepared())
    back = Cache(tmp_path / "deep" / "cache").get_or_make(KEY, never)
    assert same(back, prepared())
    assert back.slices.dtype == np.float16 and back.affine.dtype == np.float64


def test_slices_that_are_not_contiguous_are_kept_right(tmp_path: Path) -> None:
    cache, one = Cache(tmp_path), prepared()
    turned = replace(one, slices=one.slices.transpose(0, 1, 3, 2)[::-1])
    cache.get_or_make(KEY, lambda: turned)
    assert np.array_equal(cache.get_or_make(KEY, never).slices, turned.slices)


def test_the_folder_and_its_files_are_private(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir(mode=0o755)
    cache = Cache(tmp_path / "cache")
    cache.get_or_make(KEY, prepared)
    assert stat.S_IMODE(cache.folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(entry(cache).stat().st_mode) == 0o600
    assert sorted(cache.folder.iterdir()) == sorted([cache.folder / USERS, entry(cache).parent])
    assert stat.S_IMODE(entry(cache).parent.stat().st_mode) == 0o700
    assert stat.S_IMODE((cache.folder / USERS).stat().st_mode) == 0o700


def damages() -> dict[str, object]:
    other = Path  # a marker: the content of another key's entry
    return {
        "empty": lambda content: b"",
        "cut": lambda content: content[: len(content) // 2],
        "cut_by_one": lambda content: content[:-1],
        "longer": lambda content: content + b"\0",
        "zeros": lambda content: bytes(len(content)),
        "text": lambda content: b"not a cache entry",
        "header_length_absurd": lambda content: b"\xff" * 8 + content[8:],
        "no_metadata": lambda content: content.replace(b"__metadata__", b"__metadatb__"),
        "other_plane": lambda content: content.replace(b'"coronal"', b'"sagitta"'),
        "other_key": lambda content: content.replace(KEY.encode(), cache_key("xyz", VIEW).encode()),
        "another_entry": other,
    }


@pytest.mark.parametrize("name", damages())
def test_C7_a_damaged_entry_is_made_again_with_one_line(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    cache = Cache(tmp_path)
    cache.get_or_make(KEY, prepared)
    if name == "another_entry":
        other = cache_key("other", VIEW)
        cache.get_or_make(other, lambda: prepared(9))
        entry(cache).write_bytes(entry_path(cache.folder, f"{other}.safetensors").read_bytes())
    else:
        entry(cache).write_bytes(damages()[name](entry(cache).read_bytes()))
    with caplog.at_level(logging.WARNING):
        assert same(cache.get_or_make(KEY, prepared), prepared())
    assert len(caplog.records) == 1 and "made again" in caplog.text and caplog.text.count("\n") == 1
    assert same(cache.get_or_make(KEY, never), prepared())


def test_C7_no_flipped_bit_comes_through(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.get_or_make(KEY, prepared)
    whole = entry(cache).read_bytes()
    for place in range(0, len(whole), 13):
        changed = bytearray(whole)
        changed[place] ^= 1 << (place % 8)
        entry(cache).write_bytes(bytes(changed))
        assert same(cache.get_or_make(KEY, prepared), prepared())


def test_C7_the_key_follows_everything_that_decides_the_slices() -> None:
    changes = [
        {"size": (15, 14, 4)},
        {"size": (14, 14, None)},
        {"plane": "axial"},
        {"field_of_view": (10.0, 10.0, 10.0)},
        {"normalise": "zscore"},
        {"normalise": "window", "windows": ((0, 1),)},
        {"normalise": "window", "windows": ((0, 2),)},
        {"percentiles": (1.0, 99.5)},
    ]
    keys = [cache_key("abc", replace(VIEW, **change)) for change in changes]
    keys += [KEY, cache_key("abd", VIEW), cache_key("abc", VIEW, CODE_VERSION + 1), cache_key("abc", None)]
    keys += [cache_key("abc", VIEW, spacing=(1.0, 1.0, 2.0)), cache_key("abc", VIEW, spacing=(1.0, 1.0, 3.0))]
    assert len(set(keys)) == len(keys)
    assert all(len(key) == 64 and int(key, 16) >= 0 for key in keys)


def test_the_name_of_the_column_is_not_part_of_the_key() -> None:
    assert cache_key("abc", replace(VIEW, image="image.axial")) == KEY


def test_a_failed_make_leaves_nothing_behind(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    with pytest.raises(AssertionError):
        cache.get_or_make(KEY, never)
    assert [path.name for path in tmp_path.iterdir()] == [USERS]


def test_a_folder_that_cannot_be_used_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunFolderError, match="ANYMC3D_HOME"):
        Cache(tmp_path / "file" / "cache")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    cache = Cache(tmp_path / "cache")
    monkeypatch.setattr("anymc3d.data.cache.write_bytes", full)
    with pytest.raises(RunFolderError, match="No space left"):
        cache.get_or_make(KEY, prepared)


def fill(folder: Path, enough: Path) -> None:
    cache = Cache(folder)
    while not enough.exists():
        for number in range(6):
            key = cache_key(str(number), VIEW)
            assert same(cache.get_or_make(key, lambda number=number: prepared(number, 40)), prepared(number, 40))
            if os.getpid() % 2:
                entry_path(cache.folder, f"{key}.safetensors").unlink(missing_ok=True)


def test_C7_processes_that_share_a_folder_and_die_leave_only_whole_entries(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    folder, enough = tmp_path / "cache", tmp_path / "enough"
    workers = [context.Process(target=fill, args=(folder, enough)) for _ in range(4)]
    for worker in workers:
        worker.start()
    while len(list(folder.rglob("*.safetensors"))) < 3:
        time.sleep(0.01)
    for worker in workers[:2]:
        os.kill(worker.pid, signal.SIGKILL)
        worker.join()
    while len(list(folder.rglob("*.safetensors"))) < 3:
        time.sleep(0.01)
    enough.touch()
    for worker in workers[2:]:
        worker.join()
    assert [worker.exitcode for worker in workers] == [-signal.SIGKILL, -signal.SIGKILL, 0, 0]
    cache = Cache(folder)
    for number in range(6):
        key = cache_key(str(number), VIEW)
        assert same(cache.get_or_make(key, lambda number=number: prepared(number, 40)), prepared(number, 40))


@pytest.mark.parametrize("name", ["pipe", "folder", "endless device", "empty device", "link to itself"])
def test_C7_what_is_no_file_is_never_waited_for_and_made_again(tmp_path: Path, name: str) -> None:
    cache = Cache(tmp_path)
    cache.get_or_make(KEY, prepared)
    STAND_INS[name](entry(cache))
    assert same(cache.get_or_make(KEY, prepared), prepared())
    assert same(cache.get_or_make(KEY, never), prepared())


def test_a_folder_with_files_in_the_place_of_an_entry_is_left_alone_and_named(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    entry_path(tmp_path, f"{KEY}.safetensors").mkdir(parents=True)
    (entry_path(tmp_path, f"{KEY}.safetensors") / "mine").write_text("kept")
    with pytest.raises(OutputError, match="a folder stands where a file should be"):
        cache.get_or_make(KEY, prepared)
    assert (entry_path(tmp_path, f"{KEY}.safetensors") / "mine").read_text() == "kept"
