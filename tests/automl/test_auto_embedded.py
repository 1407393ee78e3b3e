"""``auto --embeddings``: without a scan the same plugin as with them; what cannot stand for scans is refused before."""

import json
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import save

from anymc3d.automl import numbers, sights, steps
from anymc3d.automl.data import AutoData
from anymc3d.automl.embedded import candidates_of, open_sources, read_folders, sights_of
from anymc3d.automl.run import auto
from anymc3d.automl.settings import AutoSettings
from anymc3d.cli.main import main
from anymc3d.data.embeddings import EMBEDDING_VERSION, settings_hash
from anymc3d.data.manifest import read_manifest
from anymc3d.data.preprocess import CODE_VERSION
from anymc3d.embed.folder import embed_cohort
from anymc3d.embed.source import EmbedSettings, of_backbone
from anymc3d.errors import ManifestError, RunFolderError, UsageError
from anymc3d.files.tables import read_table, write_table
from anymc3d.models.features import FEATURES
from anymc3d.models.store import find_backbone
from anymc3d.plugins import load_plugin
from anymc3d.predict.predictor import load
from anymc3d.settings.config import LabelSettings
from anymc3d.settings.plain import to_plain
from anymc3d.settings.task_file import read_task
from anymc3d.settings.views import ViewSettings
from anymc3d.train.quick.crossval import Pool
from changed_embeddings import changed

SETTINGS = AutoSettings(outer_folds=2, least_cases=4, train=False)


def manifest_of(journey, path, image):
    rows = [{**row, "image": image(row["image"])} for row in read_table(journey.data / "manifest.csv")]
    for index, row in enumerate(rows):
        row |= {"split": "test" if index > 15 else "train", "age": str(40 + index)}
    write_table(path, list(rows[0]), rows)
    return path


def search(manifest, out, backbone="tiny-random", **options):
    common = {"minutes": 60, "device": "cpu", "quiet": True, "settings": SETTINGS}
    return auto(manifest, "block", out, backbone=backbone, **common, **options)


@pytest.fixture(scope="module")
def made(journey, tmp_path_factory):
    """``auto`` on scans, one sight and one plain method; the same cases embedded; a manifest whose scans are gone."""
    folder = tmp_path_factory.mktemp("auto_embedded")
    whole = manifest_of(journey, folder / "manifest.csv", lambda name: str(journey.data / name))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sights, "LOOKS", sights.LOOKS[1:2])
        patch.setattr(steps, "stored_records", list)
        patch.setattr(steps, "SIMPLEST", ("scan-statistics",))
        patch.setattr(numbers, "FEATURES", {"class": FEATURES["class"]})
        search(whole, folder / "scans")
    views = {
        name: view
        for member in load_plugin(folder / "scans" / "plugin.safetensors").card.members or ()
        for name, view in member.card.preprocessing.items()
    }
    task = replace(read_task(folder / "scans" / "task.yaml"), views=views)
    how = {"backbone": "tiny-random", "features": "class", "device": "cpu", "precision": "fp32", "chunk_size": 64}
    cases = read_manifest(whole).cases
    embed_cohort(of_backbone(task, segmenters=(), **how), cases, folder / "embeddings", EmbedSettings(), quiet=True)
    manifest_of(journey, folder / "bare.csv", lambda name: f"elsewhere/{name}")
    return folder


def test_without_a_scan_it_finds_the_plugin_that_the_scans_give(journey, made):
    found = search(made / "bare.csv", made / "best", embeddings=made / "embeddings")
    plugins = [load(made / name / "plugin.safetensors", device="cpu") for name in ("best", "scans")]
    for scan in (journey.scans[16], journey.scans[3]):
        own, whole = (one.predict(scan) for one in plugins)
        assert own.logits == pytest.approx(whole.logits, abs=1e-4)
        assert own.probabilities == pytest.approx(whole.probabilities, abs=1e-4)
        assert own.ood_score == pytest.approx(whole.ood_score, rel=1e-6) and own.decisions == whole.decisions
    cards = [plugin.plugins[0].card for plugin in plugins]
    assert [m.card.modality for m in cards[0].members] == [m.card.modality for m in cards[1].members]
    tables = [read_table(made / name / "leaderboard.csv") for name in ("best", "scans")]
    assert [row["candidate"] for row in tables[0]] == [row["candidate"] for row in tables[1]]
    assert [float(row["auroc"]) for row in tables[0]] == pytest.approx([float(row["auroc"]) for row in tables[1]])
    told = " ".join(found["notes"])
    assert "no scan is read" in told and "training with LoRA" in told and "--split test" not in told
    assert "no scan is read" in (made / "best" / "report.html").read_text()
    answers = [read_table(made / name / "test" / "predictions.csv") for name in ("best", "scans")]
    assert found["test"]["value"] is not None and len(answers[0]) == len(answers[1]) == 4
    for own, whole in zip(*answers, strict=True):
        assert own.keys() == whole.keys()
        same = ("case", "status", "message", "decision.block")
        assert [own[name] for name in same] == [whole[name] for name in same]
        for name in ("logit.block", "probability.block", "ood_score"):
            assert float(own[name]) == pytest.approx(float(whole[name]), abs=1e-4)


def test_a_test_split_that_was_not_embedded_is_left_out_with_the_way_to_its_answers(made, tmp_path):
    folder = changed(made, tmp_path, lambda record: record.pop("statistics_version"), lambda rows: rows[:18])
    found = search(made / "bare.csv", tmp_path / "out", embeddings=folder)
    told = " ".join(found["notes"])
    assert found["test"] is None and "2 of its 4 cases are not embedded" in told and "--split test" in told
    assert "scan-statistics: left out. Learnt from embeddings of a folder without statistics" in told


def half(folder):
    (folder / "embeddings.csv").unlink()
    return folder


@pytest.mark.parametrize(
    ("spoil", "kind", "message"),
    [
        (
            lambda m, t: changed(m, t, lambda r: r.update(backbone="sha256:" + "0" * 64)),
            UsageError,
            "give the same one",
        ),
        (
            lambda m, t: changed(m, t, lambda r: r["settings"].update(level="patch")),
            UsageError,
            "of level patch; embed",
        ),
        (lambda m, t: changed(m, t, rows=lambda rows: rows[2:]), ManifestError, "case00': not embedded"),
        (lambda m, t: half(changed(m, t)), RunFolderError, "stopped on its way; run the same command again"),
        (
            lambda m, t: changed(m, t, rows=lambda rows: [r | {"settings": "0" * 16} for r in rows]),
            UsageError,
            "rows of other settings",
        ),
    ],
    ids=["backbone", "level", "cases", "half", "settings"],
)
def test_what_cannot_stand_for_scans_is_refused_before_anything_is_computed(made, tmp_path, spoil, kind, message):
    folder = spoil(made, tmp_path)
    with pytest.raises(kind, match=message):
        search(made / "bare.csv", tmp_path / "out", embeddings=folder)
    assert not (tmp_path / "out").exists()


def test_measured_covariates_and_another_run_of_the_folder_are_refused(made, tmp_path, monkeypatch, capsys):
    with pytest.raises(UsageError, match=r"--embeddings: the covariate measure:\S+ is measured on scans"):
        search(
            made / "bare.csv", tmp_path / "x", embeddings=made / "embeddings", covariates="measure:image/scan/raw_p50"
        )
    with monkeypatch.context() as patch, pytest.raises(UsageError, match="which is not on this machine; give it with"):
        patch.setenv("ANYMC3D_HOME", str(tmp_path / "home"))  # another test may have stored it
        search(made / "bare.csv", tmp_path / "x", backbone=None, embeddings=made / "embeddings")
    asked = {}
    monkeypatch.setattr("anymc3d.automl.run.auto", lambda *_, **given: asked.update(given) or pytest.fail("asked"))
    with pytest.raises(pytest.fail.Exception):
        main(["auto", str(made / "bare.csv"), "--labels", "block", "-o", "x", "--embeddings", "a", "--embeddings", "b"])
    assert [str(one) for one in asked["embeddings"]] == ["a", "b"] and asked["backbone"] is None


VIEWS = {v: ViewSettings(size=(14, 14, 3), image=f"image.{v}") for v in "ab"}
LABELS = LabelSettings(columns=("y",), kind="binary", classes=("0", "1"))
NAMES = [f"case{number:02d}" for number in range(12)]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("by_hand") / "cases.csv"
    images = [{f"image.{v}": "" if (n, v) == ("case04", "b") else f"{n}{v}.nii" for v in VIEWS} for n in NAMES]
    rows = [{"case": name, **own, "y": index % 2} for index, (name, own) in enumerate(zip(NAMES, images, strict=True))]
    write_table(path, tuple(rows[0]), rows)
    targets = (np.arange(12) % 2).astype(float)[:, None]
    pool = Pool(tuple(NAMES), targets, LABELS, np.arange(12) // 2 % 2, ("0", "1"))
    return AutoData(read_manifest(path, check_scans=False), LABELS, targets, pool, tuple(range(12)), (), "")


def source_of(folder, data, level, features, cases):
    """A folder with these arrays; ``cases``: of each its arrays by name."""
    backbone = find_backbone("tiny-random")
    record = {
        "settings": {"level": level, "features": features},
        "backbone": backbone.fingerprint,
        "positions": "official",
        "number_format": "fp32",
        "preprocessing_version": CODE_VERSION,
        "embedding_version": EMBEDDING_VERSION,
        "views": {name: to_plain(view) for name, view in VIEWS.items()},
    }
    folder.mkdir()
    (folder / "embed.json").write_text(json.dumps(record))
    rows = []
    for name, arrays in cases.items():
        (folder / f"{name}.safetensors").write_bytes(save(arrays, metadata={"case": name}))
        rows += [
            {
                "case": name,
                "view": view,
                "status": "ok",
                "file": f"{name}.safetensors",
                "settings": settings_hash(record),
            }
            for view in VIEWS
            if view in arrays
        ]
    write_table(folder / "embeddings.csv", list(rows[0]), rows)
    (embedded,) = read_folders([folder])
    return open_sources([embedded], "tiny-random", data)[0]


def names_of(source, data):
    return [one.name for shown in sights_of([source], data) for one in candidates_of(shown, data)]


def test_each_level_gives_the_candidates_that_it_can_and_the_same_answers(data, tmp_path):
    width, rng = find_backbone("tiny-random").module.embed_dim, np.random.default_rng(0)
    slices = {n: {v: rng.normal(size=(3, 2 * width)).astype(np.float32) for v in VIEWS} for n in NAMES}
    del slices["case04"]["b"]
    whole = {name: {v: rows.mean(axis=0) for v, rows in own.items()} for name, own in slices.items()}
    of_slices = source_of(tmp_path / "slices", data, "slice", "class+mean", slices)
    of_scans = source_of(tmp_path / "scans", data, "scan", "class+mean", whole)
    kept = names_of(of_slices, data)
    assert {name.partition("; ")[0] for name in kept if "alone" not in name} == {
        *("class, concat", "class, mean", "class, max", "class+mean, concat")
    }
    shown = {name.partition("; ")[2] for name in kept}
    assert shown == {"acquisition of 2 images, 14 px, 3 slices", "acquisition of 2 images, 14 px, 3 slices, a alone"}, (
        "b is not in every case"
    )
    assert {name.split(",")[1].split(";")[0] for name in names_of(of_scans, data)} == {" concat", " mean"}
    train, ask = np.arange(8), np.arange(8, 12)
    answers = []
    for source in (of_slices, of_scans):
        shown = next(iter(sights_of([source], data)))
        (one,) = [c for c in candidates_of(shown, data) if c.name.startswith("class+mean, concat")]
        answers.append(one.answers(train, ask))
    assert answers[0] == pytest.approx(answers[1], abs=1e-4)


def test_a_structure_that_a_case_does_not_have_is_zeros_in_its_place(data, tmp_path):
    width, rng = find_backbone("tiny-random").module.embed_dim, np.random.default_rng(0)
    labels = {name: np.array([2, 5, 9] if index else [2, 9], dtype=np.int32) for index, name in enumerate(NAMES)}
    cases = {
        name: {v: rng.normal(size=(len(own), width)).astype(np.float32) for v in VIEWS}
        | {f"{v}.labels": own for v in VIEWS}
        for name, own in labels.items()
    }
    source = source_of(tmp_path / "masks", data, "mask", "class", cases)
    assert source.cases.structures == (2, 5, 9)
    (first, *_) = source.cases.features
    rows = first["a"].tokens("mask").reshape(3, width)
    assert np.array_equal(rows[[0, 2]], cases["case00"]["a"]) and not rows[1].any()
    (name, *_) = names_of(source, data)
    assert name == "mask, concat; acquisition of 2 images, 14 px, 3 slices"


def test_two_folders_of_one_sight_are_one_family_and_of_others_two(data, tmp_path):
    width = find_backbone("tiny-random").module.embed_dim
    cases = {n: {v: np.full((2, width), i, np.float32) for v in VIEWS} for i, n in enumerate(NAMES)}
    one = source_of(tmp_path / "one", data, "slice", "class", cases)
    wider = {name: replace(view, normalise="zscore") for name, view in VIEWS.items()}
    other = replace(one, embedded=replace(one.embedded, views=wider))
    names = [shown.sight.name for shown in sights_of([one, one, other], data)]
    assert names[::3] == [names[0], names[0], f"{names[0]}, folder 3"]
