"""The demo's data set on disk: known labels, right masks, the same bytes each time, never half a data set."""

import gzip
import json

import nibabel
import numpy as np
import pytest

from anymc3d.demo import anatomy, dataset
from anymc3d.demo.dataset import MANIFEST_NAME, demo_views, make_dataset
from anymc3d.demo.preview import preview
from anymc3d.demo.rules import RULES, TOGETHER, measure, simple_rules
from anymc3d.errors import RunFolderError, UsageError
from anymc3d.files.tables import read_table

TINY = {"num_train": 4, "num_val": 4, "num_test": 4, "spacing_mm": 5.0}


@pytest.fixture(autouse=True, scope="module")
def without_nilearn():
    """The phantom: quick, and the path that machines without the extra take."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dataset, "load_anatomy", lambda: anatomy.phantom(spacing_mm=4.0))
        yield


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("demo") / "data", **TINY)


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != ".lock"}


def test_H1_the_same_seed_gives_the_same_bytes(manifest, tmp_path):
    again = make_dataset(tmp_path / "again", **TINY)
    assert contents(again.parent) == contents(manifest.parent)
    other = make_dataset(tmp_path / "other", **TINY, seed=1)
    mine, theirs = contents(manifest.parent), contents(other.parent)
    assert mine.keys() == theirs.keys()
    assert all(mine[name] != theirs[name] for name in mine if name.endswith(".nii.gz"))


def test_the_manifest_is_one_that_the_package_reads(manifest):
    from anymc3d.data.manifest import read_manifest

    cases = read_manifest(manifest, labels=["ring"]).cases
    assert len(cases) == 12
    assert len({case.id for case in cases}) == len({case.patient for case in cases}) == 12


def test_every_split_holds_as_many_rings_as_solid_lesions(manifest):
    rows = read_table(manifest)
    for split in ("train", "val", "test"):
        assert sorted(row["ring"] for row in rows if row["split"] == split) == ["0", "0", "1", "1"]


def test_labels_and_masks_are_what_was_planted(manifest):
    """A ring's core is darker than its shell; read from the files, in whatever orientation they are stored."""
    from scipy import ndimage

    orientations = set()
    for row in read_table(manifest):
        image = nibabel.load(manifest.parent / row["image"])
        mask_image = nibabel.load(manifest.parent / row["mask"])
        assert np.array_equal(image.affine, mask_image.affine)
        orientations.add("".join(nibabel.aff2axcodes(image.affine)))
        scan, mask = np.asarray(image.dataobj), np.asarray(mask_image.dataobj) > 0
        inner = ndimage.distance_transform_edt(mask, sampling=image.header.get_zooms())
        core, shell = inner > 0.7 * inner.max(), mask & ~ndimage.binary_erosion(mask)
        assert (scan[shell].mean() > scan[core].mean()) == (row["ring"] == "1")
    assert orientations == {"RAS", "LPS"}  # two pairs a split: the first two sites


def test_the_stored_orientation_changes_no_voxels_place():
    voxels = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    for codes in ("RAS", "LPS", "PSR"):
        stored = dataset.nifti_bytes(voxels, affine, orientation=codes)
        image = nibabel.Nifti1Image.from_bytes(gzip.decompress(stored))
        assert nibabel.aff2axcodes(image.affine) == tuple(codes)
        back = nibabel.as_closest_canonical(image)
        assert np.array_equal(np.asarray(back.dataobj), voxels)
        assert np.allclose(back.affine, affine)


def test_every_lesion_is_met_by_a_slice_of_each_view(manifest):
    """With the package's own preparation of the mask: the views see every lesion."""
    from dataclasses import replace

    from anymc3d.data.preprocess import prepare_view
    from anymc3d.data.readers import read_volume

    for row in read_table(manifest):
        volume = read_volume(manifest.parent / row["mask"])
        for view in demo_views().values():
            small = replace(view, size=(28, 28, view.size[2]), normalise="window", windows=((0.0, 1.0),))
            assert prepare_view(volume, small).slices.max() > 0.2


def test_a_finished_folder_is_reused_and_a_changed_file_is_made_again(tmp_path, monkeypatch, caplog):
    folder = tmp_path / "data"
    manifest = make_dataset(folder, **TINY)
    whole = contents(folder)
    with monkeypatch.context() as patch:
        patch.setattr(dataset, "make_case", None)  # would fail if anything were made
        assert make_dataset(folder, **TINY) == manifest
    (folder / "images" / "case003.nii.gz").write_bytes(b"half")
    make_dataset(folder, **TINY)
    assert "1 files are missing or changed" in caplog.text
    assert contents(folder) == whole


def test_C1_an_interrupted_making_is_finished_by_the_next_call(tmp_path, monkeypatch, manifest):
    folder = tmp_path / "data"
    made = dataset.make_case

    def stop_at_the_third(anatomy, case, settings):
        if case.number == 3:
            raise KeyboardInterrupt
        return made(anatomy, case, settings)

    with monkeypatch.context() as patch:
        patch.setattr(dataset, "make_case", stop_at_the_third)
        with pytest.raises(KeyboardInterrupt):
            make_dataset(folder, **TINY)
    assert not (folder / MANIFEST_NAME).exists()
    make_dataset(folder, **TINY)
    assert contents(folder) == contents(manifest.parent)


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(RunFolderError, match=r"holds thesis\.txt; choose another output folder"):
        make_dataset(tmp_path, **TINY)


def test_C13_a_data_set_of_other_settings_is_refused(manifest):
    with pytest.raises(RunFolderError, match="seed"):
        make_dataset(manifest.parent, **TINY, seed=7)


@pytest.mark.parametrize(("name", "value"), [("num_test", 5), ("num_train", 0), ("spacing_mm", 0.1), ("seed", -1)])
def test_settings_out_of_range_are_refused_before_anything_is_written(tmp_path, name, value):
    with pytest.raises(UsageError, match=f"{name}: expected"):
        make_dataset(tmp_path / "data", **(TINY | {name: value}))
    assert not (tmp_path / "data").exists()


def test_the_record_says_which_anatomy_it_was(manifest):
    assert "phantom" in json.loads((manifest.parent / dataset.RECORD_NAME).read_text())["anatomy"]


def test_simple_rules_measure_the_true_lesion_and_learn_outside_the_test_split(manifest):
    measured = measure(manifest)
    assert measured.values.shape == (12, len(RULES))
    assert measured.is_test.sum() == 4
    volumes_ml = measured.values[:, 0] / 1000
    assert ((volumes_ml > 2) & (volumes_ml < 32)).all()
    assert (measured.values[:, 3] > measured.values[:, 1]).all()  # brightest above mean
    results = simple_rules(manifest)
    assert set(results) == {*RULES, TOGETHER}
    assert all(0 <= value <= 1 for value in results.values())


def test_a_pair_shares_its_lesions_histogram_in_different_heads():
    settings = dataset.DatasetSettings(**TINY, seed=0)
    pairs = {}
    for case in dataset.plan_cases(settings):
        pairs.setdefault(case.pair, []).append(case)
    for first, second in pairs.values():
        assert {first.ring, second.ring} == {True, False}
        assert (first.split, first.site) == (second.split, second.site)
    head = anatomy.phantom(spacing_mm=4.0)
    (scan, mask, _), (other_scan, other_mask, _) = (dataset.make_case(head, case, settings) for case in pairs[0])
    assert not np.array_equal(scan, other_scan)
    assert mask.sum() == pytest.approx(other_mask.sum(), rel=0.25)


def test_the_preview_is_a_picture_and_leaves_no_figure_open(manifest, tmp_path):
    import matplotlib.image
    from matplotlib import pyplot

    before = pyplot.get_fignums()
    picture = matplotlib.image.imread(preview(manifest, tmp_path / "preview.png", cases_per_kind=2))
    assert min(picture.shape[:2]) > 200
    assert picture[..., :3].std() > 0.1
    assert pyplot.get_fignums() == before


def test_the_preview_refuses_a_split_without_cases(manifest, tmp_path):
    with pytest.raises(UsageError, match="ring = 1 in split 'nowhere', found none"):
        preview(manifest, tmp_path / "preview.png", split="nowhere")
