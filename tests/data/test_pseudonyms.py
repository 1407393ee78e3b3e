"""Pseudonyms: keyed, stable, one key file that only its owner reads, and never in the folder that is passed on."""

import hashlib
import hmac
import os
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from anymc3d.data.pseudonyms import Pseudonyms, load_pseudonyms, write_map
from anymc3d.errors import UsageError
from anymc3d.files.tables import read_table


def test_G3_pseudonyms_are_the_keyed_hash_of_rfc_2104():
    key = bytes(range(32))
    truth = hmac.new(key, b"anymc3d case\0M\xc3\xbcller", hashlib.sha256).hexdigest()
    assert Pseudonyms(key).case("Müller") == "p" + truth[:20]
    assert "00010203" not in repr(Pseudonyms(key))


def test_G3_same_key_same_ids_and_two_keys_disjoint_ids(tmp_path):
    one, again = (load_pseudonyms(tmp_path / "a.key") for _ in range(2))
    other = load_pseudonyms(tmp_path / "b.key")
    ids = [f"{number:06d}" for number in range(2000)]
    assert [one.case(name) for name in ids] == [again.case(name) for name in ids]
    assert not {one.case(name) for name in ids} & {other.case(name) for name in ids}
    assert len({one.case(name) for name in ids}) == len(ids)
    assert one.check == again.check != other.check
    assert not any(name in one.case(name) for name in ids)


def test_G3_a_new_key_is_readable_by_its_owner_alone_whatever_the_umask(tmp_path):
    before = os.umask(0)
    try:
        load_pseudonyms(tmp_path / "key")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    assert len((tmp_path / "key").read_text().strip()) == 64
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


def test_many_makers_of_one_key_get_one_key(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: load_pseudonyms(tmp_path / "key").check, range(32)))
    assert len(set(found)) == 1


@pytest.mark.parametrize(
    "content", [b"", b"secret\n", b"a" * 63, b"a" * 65, b"G" * 64, b"a" * 64 + b"\n\n"], ids=lambda c: str(len(c))
)
def test_a_file_that_is_no_key_is_refused_and_left_alone(tmp_path, content):
    (tmp_path / "key").write_bytes(content)
    (tmp_path / "key").chmod(0o600)
    with pytest.raises(UsageError, match="expected a key file of 64 hexadecimal digits"):
        load_pseudonyms(tmp_path / "key")
    assert (tmp_path / "key").read_bytes() == content


def test_a_key_that_others_can_read_is_refused(tmp_path):
    load_pseudonyms(tmp_path / "key")
    (tmp_path / "key").chmod(0o640)
    with pytest.raises(UsageError, match="chmod 600"):
        load_pseudonyms(tmp_path / "key")


@pytest.mark.parametrize("kind", ["folder", "pipe", "loop", "below a file"])
def test_A16_what_is_no_file_is_no_key(tmp_path, kind):
    path = tmp_path / "key"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "loop":
        path.symlink_to(path)
    else:
        path.write_bytes(b"x")
        path = path / "key"
    with pytest.raises(UsageError, match="--pseudonymize"):
        load_pseudonyms(path)


@pytest.mark.parametrize("name", ["out/key", "out/sub/key", "out/../out/key", "link/key"])
def test_G3_the_key_is_never_in_the_output_folder(tmp_path, name):
    (tmp_path / "out").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "out")
    with pytest.raises(UsageError, match="keep it out of the output folder"):
        load_pseudonyms(tmp_path / name, apart_from=[tmp_path / "out"])
    assert not list((tmp_path / "out").iterdir())


def test_the_map_grows_and_never_replaces_another_table(tmp_path):
    names = load_pseudonyms(tmp_path / "key")
    write_map(tmp_path / "map.csv", ["b", "a"], names)
    write_map(tmp_path / "map.csv", ["c", "a"], names)
    rows = read_table(tmp_path / "map.csv")
    assert [(row["case"], row["pseudonym"]) for row in rows] == [(name, names.case(name)) for name in "abc"]
    assert stat.S_IMODE((tmp_path / "map.csv").stat().st_mode) == 0o600
    (tmp_path / "other.csv").write_text("case,image\na,b\n")
    with pytest.raises(UsageError, match="case,pseudonym"):
        write_map(tmp_path / "other.csv", ["a"], names)
    assert (tmp_path / "other.csv").read_text() == "case,image\na,b\n"
