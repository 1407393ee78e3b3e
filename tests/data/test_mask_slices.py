"""Masks cut like the slices of a view and kept in the cache."""

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from anymc3d.data import case_scans, scan
from anymc3d.data.cache import Cache
from anymc3d.data.case import Case
from anymc3d.data.case_scans import CaseScans
from anymc3d.data.dataset import prepare_all
from anymc3d.errors import ManifestError, OutputError, ScanError
from anymc3d.settings.views import ViewSettings
from damage import STAND_INS, flipped

VIEWS = {"image": ViewSettings(size=(12, 16, 6), plane="axial", field_of_view=(12.0, 16.0, 12.0))}


def write(path, values, spacing=(1.0, 1.0, 2.0), flip=False):
    image = nib.Nifti1Image(values, np.diag([*spacing, 1.0]))
    if flip:  # the same voxels in the world, stored the other way round
        image = image.as_reoriented(np.array([[1, -1], [0, 1], [2, -1]]))
    nib.save(image, path)
    return str(path)


def case_of(tmp_path, labels, flip=False, mask_classes="", name="mask.nii.gz"):
    rng = np.random.default_rng(0)
    scan = write(tmp_path / "scan.nii.gz", rng.normal(size=(20, 24, 8)).astype(np.float32))
    mask = write(tmp_path / name, labels, flip=flip)
    return Case("a", "a", {"image": scan}, {"mask": mask}, {}, None, None, None, None, 2, mask_classes)


def labels_of(dtype=np.uint8, top=4):
    labels = np.zeros((20, 24, 8), dtype)
    labels[6:14, 8:16, 2:6], labels[8:10, 10:14, 3:5] = 1, top
    return labels


@pytest.mark.parametrize("flip", [False, True])
def test_a_mask_is_cut_like_the_slices_whatever_its_storage(tmp_path, flip):
    found = CaseScans(case_of(tmp_path, labels_of(), flip)).masks(VIEWS)["image"]
    assert found.dtype == np.uint8
    assert np.array_equal(found, labels_of()[4:16, 4:20, 1:7].transpose(2, 0, 1))


def test_a_kept_mask_is_not_read_again_and_a_damaged_one_is_made_again(tmp_path, monkeypatch, caplog):
    cache, case = Cache(tmp_path / "cache"), case_of(tmp_path, labels_of(np.int16, 300))
    first = CaseScans(case, cache).masks(VIEWS)["image"]
    assert first.dtype == np.int16 and first.max() == 300
    made = []
    real = case_scans.cut_mask
    monkeypatch.setattr(case_scans, "cut_mask", lambda *given: made.append(1) or real(*given))
    assert np.array_equal(CaseScans(case, cache).masks(VIEWS)["image"], first) and not made
    (entry,) = (tmp_path / "cache").rglob("*.mask.safetensors")
    entry.write_bytes(entry.read_bytes()[:-1] + b"\x01")
    assert np.array_equal(CaseScans(case, cache).masks(VIEWS)["image"], first) and made
    assert "is damaged: made again" in caplog.text


def test_C7_no_flipped_bit_of_a_kept_mask_comes_through(tmp_path):
    cache, case = Cache(tmp_path / "cache"), case_of(tmp_path, labels_of(np.int16, 300))
    first = CaseScans(case, cache).masks(VIEWS)["image"]
    (entry,) = (tmp_path / "cache").rglob("*.mask.safetensors")
    for changed in flipped(entry.read_bytes(), 60):
        entry.write_bytes(changed)
        found = CaseScans(case, cache).masks(VIEWS)["image"]
        assert found.dtype == first.dtype and np.array_equal(found, first)
    for name in ("pipe", "folder", "endless device", "empty"):
        STAND_INS[name](entry)
        assert np.array_equal(CaseScans(case, cache).masks(VIEWS)["image"], first)


def test_another_mask_is_another_entry(tmp_path):
    cache = Cache(tmp_path / "cache")
    CaseScans(case_of(tmp_path, labels_of()), cache).masks(VIEWS)
    other = CaseScans(case_of(tmp_path, labels_of(top=2)), cache).masks(VIEWS)["image"]
    assert set(np.unique(other)) == {0, 1, 2} and len(list((tmp_path / "cache").rglob("*.mask.safetensors"))) == 2


def test_labels_found_on_the_slices_are_remembered(tmp_path):
    (prepared,) = prepare_all([case_of(tmp_path, labels_of())], VIEWS, Cache(tmp_path / "cache"), with_masks=True)
    assert prepared.mask_labels == {"image": (1, 4)} and "mask segmentation" in prepared.hashes
    (without,) = prepare_all([case_of(tmp_path, labels_of())], VIEWS, Cache(tmp_path / "cache"))
    assert without.mask_labels == {}


@pytest.mark.parametrize("cell", ["1", "x", "0 1", "-1"])
def test_mask_classes_must_name_what_the_mask_holds(tmp_path, cell):
    case = case_of(tmp_path, labels_of(), mask_classes=cell)
    with pytest.raises(ManifestError, match=r"case 'a': .*mask_classes"):
        prepare_all([case], VIEWS, Cache(tmp_path / "cache"), with_masks=True)


def test_labels_beyond_16_bits_are_refused(tmp_path):
    with pytest.raises(ScanError, match="expected labels from 0 to 32767, got 40000"):
        CaseScans(case_of(tmp_path, labels_of(np.int32, 40000))).masks(VIEWS)


def test_D1_D8_before_training_every_case_has_its_line_and_a_full_cache_ends_it_at_once(tmp_path, monkeypatch):
    cases = [replace(case_of(tmp_path, labels_of()), id=name) for name in "abc"]
    cache, prepare = Cache(tmp_path / "cache"), scan.prepare_view

    def odd(*given):
        raise ZeroDivisionError("odd")

    monkeypatch.setattr(scan, "prepare_view", odd)
    with pytest.raises(ManifestError) as caught:
        prepare_all(cases, VIEWS, cache)
    assert [problem.partition(":")[0] for problem in caught.value.problems] == ["case 'a'", "case 'b'", "case 'c'"]
    assert "ZeroDivisionError: odd" in str(caught.value)
    monkeypatch.setattr(scan, "prepare_view", prepare)

    def full(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("anymc3d.data.cache.write_bytes", full)
    with pytest.raises(OutputError, match=r"No space left on device.*make room.*ANYMC3D_HOME"):
        prepare_all(cases, VIEWS, cache)
