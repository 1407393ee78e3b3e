"""Embeddings: equal to what transformers and the plugin itself compute, resumable, and right about where slices lie."""

import shutil

import nibabel as nib
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

import anymc3d.data.scan
from anymc3d.cli.main import main
from anymc3d.data.case_scans import CaseScans
from anymc3d.data.manifest import read_manifest
from anymc3d.embed.source import DEFAULT_VIEWS, EmbedSettings, of_backbone, of_plugin
from anymc3d.errors import UsageError
from anymc3d.files.tables import read_table, write_table
from anymc3d.models.store import find_backbone
from anymc3d.plugins import load_plugin
from anymc3d.predict.predictor import load

HOW = {"backbone": None, "device": "cpu", "precision": "fp32", "chunk_size": 5, "segmenters": ()}


@pytest.fixture(scope="module")
def manifest(journey, tmp_path_factory):
    """Three scans with masks, one of them without its scan."""
    folder = tmp_path_factory.mktemp("embed")
    scans = journey.scans[:3]
    mask = np.zeros(nib.load(scans[0]).shape, np.uint8)
    mask[4:12, 4:12] = 3
    mask[12:, 12:] = 7
    nib.save(nib.Nifti1Image(mask, nib.load(scans[0]).affine), folder / "mask.nii.gz")
    rows = [{"case": p.name.split(".")[0], "image": str(p), "mask": "mask.nii.gz"} for p in scans]
    rows.append({"case": "gone", "image": "gone.nii.gz", "mask": "mask.nii.gz"})
    write_table(folder / "manifest.csv", ("case", "image", "mask"), rows)
    return folder / "manifest.csv"


def first_case(manifest):
    return read_manifest(manifest, check_scans=False).cases[0]


def embed(manifest, out, *more):
    common = ["-i", str(manifest), "-o", str(out), "--device", "cpu", "--quiet", "--backbone", "tiny-random"]
    return main(["embed", *common, *more])


@pytest.fixture(scope="module")
def slices(manifest, tmp_path_factory):
    out = tmp_path_factory.mktemp("slices")
    assert embed(manifest, out) == 3
    return out


def test_frozen_class_tokens_are_those_of_the_network_itself(slices, manifest):
    """By hand: the prepared slices, the card's mean and standard deviation, one call."""
    found = anymc3d.load_embeddings(slices)
    (case, arrays), *_ = found.arrays()
    loaded = find_backbone("tiny-random")
    prepared = CaseScans(first_case(manifest)).prepare(DEFAULT_VIEWS).views["image"].slices
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (loaded.card.mean, loaded.card.std))
    images = torch.from_numpy(prepared).float().repeat(1, 3, 1, 1)
    with torch.inference_mode():
        tokens = loaded.module((images - mean) / std).tokens[:, 0]
    assert case == "case00" and images.shape[-1] % loaded.module.patch_size == 0
    assert np.allclose(arrays["values"], tokens.numpy(), atol=1e-5)
    rows = read_table(slices / "embeddings.csv")
    assert [row["status"] for row in rows] == ["ok", "ok", "ok", "error"]
    assert rows[3]["case"] == "gone" and not rows[3]["file"] and rows[3]["message"].startswith("image: ")
    assert found.record["backbone"].startswith(rows[0]["backbone"]) and len(found) == 3


def test_positions_are_the_middles_of_slices_in_millimetres(slices, journey):
    """By hand: along the slice axis they step by the spacing of the file, and all lie on one line."""
    (_, arrays), *_ = anymc3d.load_embeddings(slices).arrays()
    image = nib.load(journey.scans[0])
    steps = np.diff(arrays["position_mm"], axis=0)
    spacing = np.linalg.norm(steps, axis=1)
    assert np.allclose(spacing, spacing[0], atol=1e-3)
    assert np.isclose(spacing[0], max(image.header.get_zooms()), atol=1e-3)
    corners = nib.affines.apply_affine(image.affine, [np.zeros(3), np.array(image.shape) - 1])
    assert (arrays["position_mm"] >= corners.min(0) - 1).all() and (arrays["position_mm"] <= corners.max(0) + 1).all()


def test_the_table_and_the_matrix_hold_the_same_numbers(slices):
    pandas = pytest.importorskip("pandas")
    found = anymc3d.load_embeddings(slices)
    cases, matrix = found.numpy()
    frame = found.frame()
    numbers = [name for name in frame.columns if name.isdigit()]
    assert list(frame.columns[:6]) == ["case", "view", "slice", "x_mm", "y_mm", "z_mm"]
    assert np.allclose(frame.groupby("case")[numbers].mean().loc[cases].to_numpy(), matrix, atol=1e-5)
    assert isinstance(frame, pandas.DataFrame) and "3 cases" in repr(found)


def test_a_finished_folder_is_not_computed_again_and_another_source_is_refused(slices, manifest, monkeypatch):
    monkeypatch.setattr("anymc3d.embed.source.Source._view", lambda *_: pytest.fail("computed again"))
    before = (slices / "embeddings.csv").read_bytes()
    assert embed(manifest, slices) == 3
    assert (slices / "embeddings.csv").read_bytes() == before
    assert embed(manifest, slices, "--level", "scan") == 2


def test_a_resumed_run_reads_no_scan_that_its_file_system_says_is_unchanged(manifest, journey, tmp_path, monkeypatch):
    monkeypatch.setattr("anymc3d.data.file_marks.SETTLED_SECONDS", -3600.0)  # so that new files count as old
    scans = [shutil.copy(scan, tmp_path) for scan in journey.scans[:2]]
    words = ["embed", "-i", *map(str, scans), "-o", str(tmp_path / "out"), "--device", "cpu", "--quiet"]
    assert main([*words, "--backbone", "tiny-random"]) == 0
    read, whole = [], anymc3d.data.scan.content_hash
    monkeypatch.setattr(
        "anymc3d.data.scan.content_hash", lambda path, **given: read.append(path) or whole(path, **given)
    )
    assert main([*words, "--backbone", "tiny-random"]) == 0 and read == []
    shutil.copy(journey.scans[2], scans[1])
    assert main([*words, "--backbone", "tiny-random"]) == 0 and set(read) == {str(scans[1])}


def test_a_plugin_s_scan_embedding_gives_its_logits(journey, manifest, tmp_path):
    plugin = load_plugin(journey.plugin)
    source = of_plugin(plugin, **HOW)
    predictor = load(journey.plugin, device="cpu")
    case = first_case(manifest)
    vector = source.embed(source.scans(case), EmbedSettings(level="scan"))["scan"]
    (prediction,) = predictor.predict_case(case)
    with torch.inference_mode():
        logits = source.classifier.head(torch.from_numpy(vector)[None])[0]
    (logit,) = prediction.logits.values()
    assert np.isclose(float(logits[1] - logits[0]), logit, atol=1e-5)
    rows = source.embed(source.scans(case), EmbedSettings())["image"]
    assert rows.shape[1] == len(vector)


def test_patches_lie_where_their_affine_says(journey, manifest):
    source = of_plugin(load_plugin(journey.plugin), **HOW)
    case = first_case(manifest)
    found = source.embed(source.scans(case), EmbedSettings(level="patch"))
    grid, affine = found["image"], found["image.affine"]
    assert grid.dtype == np.float16 and grid.ndim == 4
    middle = np.array([(grid.shape[1] - 1) / 2, (grid.shape[2] - 1) / 2, 0, 1])
    slices = source.embed(source.scans(case), EmbedSettings())
    assert np.allclose((affine @ middle)[:3], slices["image.position_mm"][0], atol=1e-3)


def test_patches_of_a_structure_are_pooled_by_their_share_inside(manifest):
    source = of_backbone(None, features="class", **HOW | {"backbone": "tiny-random"})
    case = first_case(manifest)
    found = source.embed(source.scans(case), EmbedSettings(level="mask"))
    assert found["image.labels"].tolist() == [3, 7]
    grid = source.embed(source.scans(case), EmbedSettings(level="patch"))["image"].astype(np.float32)
    mask = CaseScans(case).masks(DEFAULT_VIEWS)["image"]
    side = mask.shape[1] // grid.shape[1]
    for row, label in zip(found["image"], (3, 7), strict=True):
        share = (mask == label).reshape(len(mask), grid.shape[1], side, grid.shape[2], side).mean(axis=(2, 4))
        assert np.allclose(row, (grid * share[..., None]).sum(axis=(0, 1, 2)) / share.sum(), atol=1e-2)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"level": "voxel"}, "--level: unknown 'voxel'"),
        ({"level": "patch", "features": "last4"}, "--features: has a meaning at level slice or scan"),
        ({"features": "place"}, "give --level scan"),
        ({"level": "scan", "features": "mask"}, "is --level mask"),
    ],
)
def test_what_has_no_meaning_is_wrong_use(settings, words):
    with pytest.raises(UsageError, match=words):
        EmbedSettings(**settings)


def test_parts_of_embeddings_are_joined(manifest, slices, tmp_path):
    for number in (1, 2):
        embed(manifest, tmp_path, "--part", f"{number}/2")
    assert main(["merge", str(tmp_path), "--quiet"]) == 3
    assert (tmp_path / "embeddings.csv").read_bytes() == (slices / "embeddings.csv").read_bytes()
    assert (tmp_path / "embed.json").read_bytes() == (slices / "embed.json").read_bytes()
    for row in anymc3d.load_embeddings(tmp_path).rows:
        one, other = load_file(tmp_path / row["file"]), load_file(slices / row["file"])
        assert all((one[name] == other[name]).all() for name in one)


def test_a_folder_that_is_none_is_said(tmp_path):
    from anymc3d.errors import RunFolderError

    with pytest.raises(RunFolderError, match="expected a finished folder"):
        anymc3d.load_embeddings(tmp_path)


def test_one_parquet_table_holds_the_same_numbers(manifest, tmp_path, capsys):
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs the extra parquet")
    for level, labels in (("slice", {None}), ("mask", {3, 7})):
        assert embed(manifest, tmp_path / level, "--level", level, "--format", "parquet") == 3
        table = parquet.read_table(tmp_path / level / "embeddings.parquet").to_pylist()
        assert {row["label"] for row in table} == labels
        for case, arrays in anymc3d.load_embeddings(tmp_path / level).arrays():
            own = [row for row in table if row["case"] == case]
            assert np.array_equal([row["values"] for row in own], arrays["values"])
            if level == "slice":
                assert [row["z_mm"] for row in own] == arrays["position_mm"][:, 2].tolist()
    assert embed(manifest, tmp_path / "p", "--level", "patch", "--format", "parquet") == 2
    assert embed(manifest, tmp_path / "p", "--part", "1/2", "--format", "parquet") == 2
    assert "grids" in capsys.readouterr().err
