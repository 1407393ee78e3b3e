"""Plain arrays: what is damaged, ambiguous or not numeric is refused; pickle is never read."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from damaged_arrays import LABELS, MEMBER, NPY, NPY_FILES, NPZ_FILES, SPACING, STACK, VOXELS
from scan_makers import SHAPE, npy_bytes, npy_with_header, npz_bytes, write

from anymc3d.data.formats import arrays
from anymc3d.data.readers import content_hash, read_header, read_volume
from anymc3d.errors import ScanError


@pytest.fixture(autouse=True)
def _no_canary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    yield
    assert not (tmp_path / "canary_that_must_not_appear").exists()


@pytest.mark.parametrize("name", NPY_FILES)
def test_A2_A9_B9_every_npy_file_ends_in_its_one_state(tmp_path: Path, name: str) -> None:
    content, expected = NPY_FILES[name]
    path = write(tmp_path, f"{name}.npy", content)
    if expected == "ok":
        assert read_volume(path, spacing=SPACING).shape == read_header(path, spacing=SPACING).shape == SHAPE
        return
    with pytest.raises(ScanError) as caught:
        read_volume(path, spacing=SPACING)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)
    assert "cannot be read (" not in str(caught.value)


@pytest.mark.parametrize("name", NPZ_FILES)
def test_A3_A9_A10_every_npz_file_ends_in_its_one_state(tmp_path: Path, name: str) -> None:
    content, expected = NPZ_FILES[name]
    reference = f"{write(tmp_path, f'{name}.npz', content)}#train/3"
    if expected == "ok":
        assert read_volume(reference).shape == STACK.shape[1:]
        return
    for function in (read_volume, read_header, content_hash):
        with pytest.raises(ScanError) as caught:
            function(reference)
        assert "\n" not in str(caught.value) and "cannot be read (" not in str(caught.value)


def test_A10_the_message_lists_the_keys_found(tmp_path: Path) -> None:
    path = write(tmp_path, "other.npz", npz_bytes(("images.npy", MEMBER[1]), LABELS))
    with pytest.raises(ScanError, match="'train_images', found: images, train_labels"):
        read_volume(f"{path}#train/0")


@pytest.mark.parametrize("name", ["shape_1e12", "shape_overflows"])
def test_A2_absurd_shapes_allocate_nothing(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, "scan.npy", NPY_FILES[name][0])
    tracemalloc.start()
    with pytest.raises(ScanError):
        read_volume(path, spacing=SPACING)
    assert tracemalloc.get_traced_memory()[1] < 5e6
    tracemalloc.stop()


def test_A3_an_npz_bomb_is_refused_before_it_grows(tmp_path: Path) -> None:
    shape = "(20, 512, 512, 512)"
    head = npy_with_header(f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}")
    path = write(tmp_path, "bomb.npz", npz_bytes((MEMBER[0], head + b"\0" * 50_000_000)))
    tracemalloc.start()
    with pytest.raises(ScanError, match="expected"):
        read_volume(f"{path}#train/0")
    assert tracemalloc.get_traced_memory()[1] < 30e6
    tracemalloc.stop()


@pytest.mark.parametrize(
    "tail",
    ["", "#", "#train", "#train/", "#train/x", "#train/-1", "#train/5", "#test/0", "#all/0", "#train/1/2", "#train/²"],
)
def test_npz_references_of_another_form_or_place_are_refused(tmp_path: Path, tail: str) -> None:
    path = write(tmp_path, "set.npz", npz_bytes(MEMBER, LABELS))
    with pytest.raises(ScanError):
        read_volume(f"{path}{tail}")


def test_an_npz_volume_is_the_one_of_its_index(tmp_path: Path) -> None:
    path = write(tmp_path, "set.npz", npz_bytes(MEMBER, LABELS))
    for index in range(len(STACK)):
        volume = read_volume(f"{path}#train/{index}")
        assert np.array_equal(volume.voxels, STACK[index])
        assert volume.spacing == (1.0, 1.0, 1.0) and volume.orientation == "RAS"


def test_an_npz_split_is_decoded_once_and_again_when_the_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = []
    real = arrays._read_member
    monkeypatch.setattr(arrays, "_read_member", lambda *a: decoded.append(a) or real(*a))
    path = write(tmp_path, "set.npz", npz_bytes(MEMBER, LABELS))
    for index in range(5):
        read_volume(f"{path}#train/{index}")
        content_hash(f"{path}#train/{index}")
    assert len(decoded) == 1
    write(tmp_path, "set.npz", npz_bytes((MEMBER[0], npy_bytes(255 - STACK)), LABELS))
    assert np.array_equal(read_volume(f"{path}#train/2").voxels, 255 - STACK[2])
    assert len(decoded) == 2


def test_content_hashes_of_an_npz_follow_the_volume_alone(tmp_path: Path) -> None:
    one = write(tmp_path, "one.npz", npz_bytes(MEMBER, LABELS))
    other = write(tmp_path, "other.npz", npz_bytes(LABELS, ("val_images.npy", npy_bytes(STACK[::-1]))))
    hashes = [content_hash(f"{one}#train/{i}") for i in range(5)]
    assert len(set(hashes)) == 5
    assert [content_hash(f"{other}#val/{4 - i}") for i in range(5)] == hashes


def test_a_npy_needs_a_spacing_and_says_where_it_belongs(tmp_path: Path) -> None:
    path = write(tmp_path, "scan.npy", NPY)
    with pytest.raises(ScanError, match="column 'spacing'"):
        read_volume(path)
    volume = read_volume(path, spacing=SPACING)
    assert volume.spacing == SPACING and np.array_equal(volume.voxels, VOXELS)


@pytest.mark.parametrize(
    "spacing", [(0, 1, 1), (1, 1), (1, 1, float("nan")), (1, -1, 1), (1, 1, float("inf")), (1, 1, 1e6)]
)
def test_a_spacing_that_is_none_is_refused(tmp_path: Path, spacing: tuple[float, ...]) -> None:
    path = write(tmp_path, "scan.npy", NPY)
    with pytest.raises(ScanError, match="spacing"):
        read_volume(path, spacing=spacing)


@pytest.mark.real_data
def test_real_medmnist_volumes_are_what_numpy_reads(real_data: Path) -> None:
    path = real_data / "adrenalmnist3d" / "adrenalmnist3d_64.npz"
    with np.load(path) as archive:
        expected = archive["val_images"]
    for index in (0, 50, 97):
        assert np.array_equal(read_volume(f"{path}#val/{index}").voxels, expected[index])


@pytest.mark.parametrize("shape", [(28, 28, 3), (200, 300, 4), (3, 64, 64)])
def test_B8_colour_pictures_are_no_scans(tmp_path, shape):
    """Red, green and blue would become three axial slices."""
    pictures = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    np.save(tmp_path / "p.npy", pictures)
    for read in (read_volume, read_header):
        with pytest.raises(ScanError, match="a colour picture"):
            read(tmp_path / "p.npy", spacing=SPACING)


@pytest.mark.parametrize("shape", [(28, 28, 2), (28, 28, 5), (4, 4, 3), (64, 3, 64)])
def test_thin_stacks_that_are_no_colours_are_read(tmp_path, shape):
    np.save(tmp_path / "p.npy", np.random.default_rng(0).normal(size=shape).astype(np.float32))
    assert read_volume(tmp_path / "p.npy", spacing=SPACING).shape == shape


@pytest.mark.parametrize("shape", [(28, 28, 3), (64, 64, 4), (3, 28, 28)])
def test_B8_a_medmnist_file_of_colour_pictures_is_refused(tmp_path, shape):
    from anymc3d.data.medmnist import inspect_npz

    rng, path = np.random.default_rng(0), tmp_path / "pictures.npz"
    parts = {}
    for split in ("train", "val", "test"):
        parts[f"{split}_images"] = rng.integers(0, 256, (6, *shape)).astype(np.uint8)
        parts[f"{split}_labels"] = (np.arange(6) % 2)[:, None].astype(np.uint8)
    np.savez_compressed(path, **parts)
    problems = inspect_npz(path)[2]
    assert len(problems) == 3 and all("colour pictures; 2D sets are not scans" in one for one in problems)
    with pytest.raises(ScanError, match="colour pictures"):
        read_volume(f"{path}#train/0")


def test_A14_a_scan_that_was_not_fetched_says_how(tmp_path):
    (tmp_path / "a.nii.gz").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n")
    (tmp_path / "b.nii.gz").write_bytes(b"/annex/objects/MD5E-s1000--0123.nii.gz\n")
    (tmp_path / "c.nii.gz").symlink_to("../.git/annex/objects/a/b")
    for name, told in (("a", "git lfs pull"), ("b", "git annex get"), ("c", "it was not fetched")):
        for read in (read_volume, read_header, content_hash):
            with pytest.raises(ScanError, match=told):
                read(tmp_path / f"{name}.nii.gz")
