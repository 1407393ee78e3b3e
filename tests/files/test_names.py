"""A14: a name of a table that looks like one on the disk is that one, whoever wrote it; no other is."""

import unicodedata

import pytest

from anymc3d.files.names import is_of_windows, on_disk
from anymc3d.files.pointers import absent, broken_link, pointer_in


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("folder", ["Münster", "plain"])
def test_A14_other_codes_of_the_same_letters_find_the_file(tmp_path, form, folder):
    other = {"NFC": "NFD", "NFD": "NFC"}[form]
    real = tmp_path / unicodedata.normalize(form, folder) / unicodedata.normalize(form, "Ä_Å_é.nii")
    real.parent.mkdir()
    real.touch()
    for written in (
        unicodedata.normalize(other, f"{folder}/Ä_Å_é.nii"),
        f"{folder}\\Ä_Å_é.nii",
        f"{folder}/Ä_Å_é.nii\u200b",
    ):
        assert on_disk(f"{tmp_path}/{written}") == str(real)


def test_what_is_there_as_written_is_taken_as_it_is(tmp_path):
    for name in ("a\\b.nii", "ü.nii", unicodedata.normalize("NFD", "ü.nii")):
        (tmp_path / name).touch()
        assert on_disk(f"{tmp_path}/{name}") == f"{tmp_path}/{name}"


def test_two_that_look_the_same_are_not_guessed(tmp_path):
    for name in ("ü.nii", unicodedata.normalize("NFD", "ü.nii")):
        (tmp_path / name).touch()
    assert on_disk(f"{tmp_path}/ü\u200b.nii") == f"{tmp_path}/ü\u200b.nii"
    assert on_disk(f"{tmp_path}/ö.nii") == f"{tmp_path}/ö.nii"


def test_paths_of_another_computer():
    assert is_of_windows(r"C:\data\a.nii") and is_of_windows("d:/data/a.nii") and is_of_windows(r"\\server\share\a.nii")
    assert not is_of_windows("c/a.nii") and not is_of_windows(r"scans\a.nii")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n", "git lfs pull"),
        (b"/annex/objects/MD5E-s1000--0123.nii.gz\n", "git annex get"),
        (b"../.git/annex/objects/aa/bb/MD5E-s1--0.nii.gz/MD5E-s1--0.nii.gz", "git annex get"),
        (b"version 2\n", None),
        (b"\x5c\x01\x00\x00", None),
        (b"", None),
    ],
)
def test_A14_pointers_say_how_their_content_is_fetched(content, told):
    found = pointer_in(content)
    assert found is None if told is None else told in found


def test_A14_links_to_nothing_are_told(tmp_path):
    (tmp_path / "annexed").symlink_to("../.git/annex/objects/aa/bb/MD5E-s1--0/MD5E-s1--0")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "real").touch()
    (tmp_path / "good").symlink_to("real")
    assert "not fetched (datalad get" in broken_link(tmp_path / "annexed")
    assert "was the data moved?" in broken_link(tmp_path / "dangling")
    assert [broken_link(tmp_path / name) for name in ("real", "good", "absent", "loop")] == [None] * 4
    assert absent(tmp_path / "loop") == "a symbolic link that leads back to itself"
