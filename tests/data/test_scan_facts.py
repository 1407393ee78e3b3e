"""What is remembered of a scan in the cache is what was measured, or it is measured again."""

import json
import logging

import nibabel as nib
import numpy as np
import pytest

from anymc3d.data.cache import Cache
from anymc3d.data.case import Case
from anymc3d.data.case_scans import CaseScans
from anymc3d.data.intensity import profile
from anymc3d.data.scan import ScanFacts, encode_facts, read_facts
from anymc3d.data.volume import Volume
from anymc3d.settings.views import ViewSettings
from damage import STAND_INS, flipped, swap

VIEWS = {"image": ViewSettings(size=(8, 8, 4))}


@pytest.fixture
def case(tmp_path):
    values = np.random.default_rng(0).normal(100, 20, size=(8, 8, 4)).astype(np.float32)
    nib.save(nib.Nifti1Image(values, np.diag([1.0, 1.0, 2.0, 1.0])), tmp_path / "scan.nii.gz")
    return Case("a", "a", {"image": str(tmp_path / "scan.nii.gz")}, {}, {}, None, None, None, None, 2)


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache")


def facts(case, cache):
    return CaseScans(case, cache).prepare(VIEWS).scans["image"]


def entry(cache):
    (path,) = cache.folder.rglob("*.facts.json")
    return path


@pytest.mark.parametrize("name", STAND_INS)
def test_C7_facts_that_are_not_as_written_are_measured_again(case, cache, name, caplog):
    first = facts(case, cache)
    STAND_INS[name](entry(cache))
    with caplog.at_level(logging.WARNING):
        assert facts(case, cache) == first
    assert len(caplog.records) == (name != "link to nothing")  # there was no entry, as after a trim
    caplog.clear()
    assert facts(case, cache) == first, "and kept anew"
    assert not caplog.records


def test_C7_no_flipped_bit_of_the_facts_comes_through(case, cache):
    first = facts(case, cache)
    path, key = entry(cache), json.loads(entry(cache).read_text())["key"]
    whole, found = path.read_bytes(), 0
    for changed in flipped(whole, 3000):
        path.write_bytes(changed)
        try:
            assert read_facts(path, key) == first, "only what means nothing, such as a blank, may change"
        except ValueError:
            found += 1
    assert found > 2500


def test_C7_the_facts_of_another_scan_are_not_taken(tmp_path, case, cache):
    first = facts(case, cache)
    cube = Volume(voxels=np.arange(8, dtype=np.float32).reshape(2, 2, 2), affine=np.eye(4))
    other = ScanFacts(profile(cube), (1.0, 1.0, 1.0), (2, 2, 2), ())
    (cache.folder / "other.v2.facts.json").write_bytes(encode_facts(other, "other"))
    mine = next(path for path in cache.folder.rglob("*.facts.json") if path.name != "other.v2.facts.json")
    swap(mine, cache.folder / "other.v2.facts.json")
    assert facts(case, cache) == first


def test_facts_without_a_checksum_as_they_once_were_are_not_believed(case, cache):
    first = facts(case, cache)
    path = entry(cache)
    old = json.loads(path.read_text())["facts"]
    old["intensities"]["p50"] += 1000
    path.with_name(path.name.replace(".v2", "")).write_text(json.dumps(old))
    path.write_text(json.dumps(old))
    assert facts(case, cache) == first
