"""A8: a name that came from a file stays below its folder, whatever it says and whatever links are there."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anymc3d.errors import UsageError
from anymc3d.files.containment import inside


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "/etc/passwd", "..\\x", "a\0b", "x" * 241, "é" * 200, "../../victim"]
)
def test_A8_what_is_no_plain_name_is_refused(tmp_path, name):
    with pytest.raises(UsageError, match="expected the name of a file"):
        inside(tmp_path, name)
    with pytest.raises(UsageError, match="expected the name of a file"):
        inside(tmp_path, "case", name)


@given(st.text(max_size=300))
def test_A8_whatever_is_let_through_lies_below(text):
    folder = Path("/nowhere/out")
    try:
        path = inside(folder, text)
    except UsageError:
        return
    assert path.parent == folder and path.name == text


def test_A8_no_link_leads_out(tmp_path):
    out, other = tmp_path / "out", tmp_path / "other"
    for folder in (out, other):
        folder.mkdir()
    (out / "case").symlink_to(other)
    (out / "inner").mkdir()
    (out / "same").symlink_to(out / "inner")
    (out / "loop").symlink_to(out / "loop")
    with pytest.raises(UsageError, match="leads out of"):
        inside(out, "case", "x.png")
    assert inside(out, "same", "x.png") == out / "same" / "x.png"
    assert inside(out, "new", "x.png") == out / "new" / "x.png"
    with pytest.raises(UsageError, match=r"cannot be followed|leads out"):
        inside(out, "loop", "x.png")


def test_an_out_folder_that_is_a_link_itself_is_the_users_own(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "disk")
    assert inside(tmp_path / "out", "x.csv") == tmp_path / "out" / "x.csv"
