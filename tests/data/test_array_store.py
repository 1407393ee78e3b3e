"""Arrays that can be made again: whole or none, within a limit, never a reason to stop."""

from __future__ import annotations

import gc
import os
import time

import numpy as np
import pytest

from anymc3d.data import array_store
from anymc3d.data.array_store import ArrayStore
from anymc3d.data.cache_size import entry_path
from anymc3d.errors import RunFolderError


def store(folder, limit_bytes=10**6):
    return ArrayStore(folder / "kept", limit_bytes=limit_bytes, what="trunk tokens", setting="train.token_cache_gb")


def arrays(number=0, size=100):
    return {"tokens": np.full((size, 5), number, np.float16), "grid": np.array([2, 3])}


def put_long_ago(folder, number, **options):
    """Entries of a process that is over, entry i used ``number - i`` hours ago; their size."""
    one = store(folder)
    for index in range(number):
        one.put(str(index), arrays(index, **options))
        then = time.time() - 3600 * (number - index)
        os.utime(entry_path(one.folder, f"{index}.safetensors"), (then, then))
    size = entry_path(one.folder, "0.safetensors").stat().st_size
    del one
    gc.collect()
    return size


def test_an_entry_comes_back_and_is_private(tmp_path):
    one = store(tmp_path)
    assert one.get("a") is None
    one.put("a", arrays(3))
    found = store(tmp_path).get("a")
    assert all(
        np.array_equal(found[name], array) and found[name].dtype == array.dtype for name, array in arrays(3).items()
    )
    found["tokens"][0] = 1
    modes = [path.stat().st_mode & 0o777 for path in (one.folder, entry_path(one.folder, "a.safetensors"))]
    assert modes == [0o700, 0o600]


@pytest.mark.parametrize("place", [3, 60, -1])
def test_a_changed_bit_or_a_cut_is_said_and_is_no_entry(tmp_path, place, caplog):
    one = store(tmp_path)
    one.put("a", arrays())
    path = entry_path(one.folder, "a.safetensors")
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    assert one.get("a") is None
    path.write_bytes(content[:-7])
    assert one.get("a") is None
    assert caplog.text.count("trunk tokens a.safetensors: damaged") == 2


def test_an_entry_under_the_name_of_another_is_none(tmp_path):
    one = store(tmp_path)
    one.put("a", arrays())
    entry_path(one.folder, "a.safetensors").rename(one.folder / "b.safetensors")
    assert one.get("b") is None


def test_what_was_used_longest_ago_makes_room(tmp_path):
    size = put_long_ago(tmp_path, 3)
    one = store(tmp_path, limit_bytes=3 * size)
    assert one.get("0") is not None
    one.put("new", arrays(7))
    assert [one.get(key) is not None for key in ("0", "1", "2", "new")] == [True, False, True, True]


def test_a_full_store_says_so_once_and_keeps_what_is_used(tmp_path, caplog):
    size = put_long_ago(tmp_path, 1)
    one = store(tmp_path, limit_bytes=2 * size)
    one.get("0")
    for key in "abc":
        one.put(key, arrays())
    assert [one.get(key) is not None for key in "0abc"] == [True, True, False, False]
    (line,) = caplog.messages
    assert "is full" in line and "(train.token_cache_gb)" in line and "computed again each time" in line
    assert sum(path.stat().st_size for path in one.folder.rglob("*.safetensors")) <= 2 * size


def test_what_other_processes_write_counts_too(tmp_path):
    """Two that began with an empty folder: together they stay within the limit, but for what each may miss."""
    size = put_long_ago(tmp_path, 1)
    entry_path(tmp_path / "kept", "0.safetensors").unlink()
    limit = 60 * size
    one, other = store(tmp_path, limit_bytes=limit), store(tmp_path, limit_bytes=limit)
    for index in range(50):
        one.put(f"a{index}", arrays())
        other.put(f"b{index}", arrays())
    kept = sum(path.stat().st_size for path in one.folder.rglob("*.safetensors"))
    assert 0.9 * limit < kept <= limit * (1 + 2 * array_store.RECOUNT_SHARE) + 2 * size


def test_a_disk_is_never_filled(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(array_store, "FREE_BYTES", 10**18)
    one = store(tmp_path)
    one.put("a", arrays())
    assert one.get("a") is None
    assert "free on its disk" in caplog.text


def test_a_folder_that_cannot_be_made_is_one_line_with_advice(tmp_path):
    (tmp_path / "kept").write_text("a file")
    with pytest.raises(RunFolderError, match=r"cannot be used .*ANYMC3D_HOME"):
        store(tmp_path)
