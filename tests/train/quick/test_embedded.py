"""``train --quick --embeddings``: the same estimate and the same plugin, without a scan; anything else is refused."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from anymc3d.cli.main import main
from anymc3d.data.case_scans import CaseScans
from anymc3d.data.manifest import read_manifest
from anymc3d.embed.folder import embed_cohort
from anymc3d.embed.source import EmbedSettings, of_backbone
from anymc3d.errors import ManifestError, RunFolderError, UsageError
from anymc3d.files.tables import read_table, write_table
from anymc3d.models.classifier import Encoding, to_backbone_input
from anymc3d.models.store import find_backbone
from anymc3d.plugins import load_plugin
from anymc3d.predict.predictor import load
from anymc3d.settings.task_file import read_task
from anymc3d.train.quick.run import fit_quick
from anymc3d.train.quick.settings import QuickSettings
from changed_embeddings import changed

SMALL = QuickSettings(outer_folds=2, inner_folds=2, decays=(0.1,), fractions=(), repeats=1, resamples=50)
HOW = {"backbone": None, "features": "class", "device": "cpu", "precision": "fp32", "chunk_size": 8, "segmenters": ()}


def manifest_of(journey, path, image):
    rows = [{**row, "image": image(row["image"])} for row in read_table(journey.data / "manifest.csv")]
    for index, row in enumerate(rows):
        row["split"] = "test" if index >= 16 else "val" if index >= 12 else "train"
    write_table(path, list(rows[0]), rows)
    return path


def task_of(journey, manifest, *more):
    return read_task(journey.task, [f"data.manifest={manifest}", *more])


@pytest.fixture(scope="module")
def made(journey, tmp_path_factory):
    """A quick run of the scans; the embeddings of their training and validation cases; a manifest without scans."""
    folder = tmp_path_factory.mktemp("embedded")
    whole = manifest_of(journey, folder / "manifest.csv", lambda name: str(journey.data / name))
    fit_quick(task_of(journey, whole), folder / "scans", settings=SMALL, device="cpu", quiet=True)
    cases = [case for case in read_manifest(whole).cases if case.split != "test"]
    source = of_backbone(task_of(journey, whole), **HOW)
    embed_cohort(source, cases, folder / "embeddings", EmbedSettings(), quiet=True)
    manifest_of(journey, folder / "bare.csv", lambda name: f"elsewhere/{name}")
    return folder


def learn(journey, made, embeddings, *more, out="run"):
    task = task_of(journey, made / "bare.csv", *more)
    return fit_quick(task, embeddings.parent / out, settings=SMALL, device="cpu", quiet=True, embeddings=embeddings)


def test_without_a_scan_the_estimate_and_the_answers_are_the_same(journey, made, caplog):
    report = learn(journey, made, made / "embeddings", out="learnt")
    own, scans = (read_table(made / name / "oof.csv") for name in ("learnt", "scans"))
    assert [row["case"] for row in own] == [row["case"] for row in scans]
    logits = [[float(row["logit.block"]) for row in rows] for rows in (own, scans)]
    assert logits[0] == pytest.approx(logits[1], abs=1e-4)
    assert json.loads(report.read_text())["out_of_fold_auroc"][0]["n"] == 16
    plugin, other = (made / name / "plugin.safetensors" for name in ("learnt", "scans"))
    ours, theirs = (load(path, device="cpu").predict(journey.scans[17]) for path in (plugin, other))
    assert ours.logits == pytest.approx(theirs.logits, abs=1e-4)
    own, whole = load_plugin(plugin).card, load_plugin(other).card
    assert own.scan_statistics is not None and own.scan_statistics == whole.scan_statistics
    assert own.intensities == whole.intensities and "no ood_score" not in caplog.text
    assert ours.ood_score == theirs.ood_score is not None
    trivial = [json.loads((made / name / "quick.json").read_text())["trivial"]["auroc"] for name in ("learnt", "scans")]
    assert trivial[0] == trivial[1]


def test_a_folder_of_before_it_had_statistics_gives_a_plugin_without_a_score(journey, made, tmp_path, caplog):
    folder = changed(made, tmp_path, lambda record: record.pop("statistics_version"))
    learn(journey, made, folder)
    assert "no ood_score" in caplog.text and "embed into a new folder" in caplog.text
    assert load_plugin(tmp_path / "run" / "plugin.safetensors").card.scan_statistics is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda record: record.update(plugin={"name": "x"}), "embed again without -p"),
        (lambda record: record["settings"].update(level="scan"), "of level scan; embed again with --level slice"),
        (lambda record: record.update(number_format="bf16"), "made in bf16; embed again with --precision fp32"),
        (lambda record: record.update(preprocessing_version=0), "another version of the preprocessing"),
        (lambda record: record.pop("embedding_version"), "another version of the preprocessing"),
        (lambda record: record.update(pseudonym_key="x"), "made with --pseudonymize"),
        (lambda record: record.update(backbone="sha256:" + "0" * 64), "give the same one with --backbone"),
        (lambda record: record.update(positions="hf"), "give the same one with --backbone"),
    ],
)
def test_embeddings_of_another_kind_are_refused_with_what_to_do(journey, made, tmp_path, change, message):
    with pytest.raises(UsageError, match=f"--embeddings: .*{message}"):
        learn(journey, made, changed(made, tmp_path, change))


def test_cases_that_were_not_embedded_are_named(journey, made, tmp_path):
    folder = changed(made, tmp_path, rows=lambda rows: rows[2:])
    with pytest.raises(ManifestError, match=r"case00.*not embedded \(image\)[\s\S]*case01.*not embedded") as caught:
        learn(journey, made, folder)
    assert len(caught.value.problems) == 3 and "embed the manifest into the same folder again" in str(caught.value)


def test_what_is_damaged_or_no_folder_is_one_clear_line(journey, made, tmp_path):
    with pytest.raises(RunFolderError, match="expected a finished folder"):
        learn(journey, made, tmp_path)
    folder = changed(made, tmp_path, lambda record: record.update(views={"image": {"size": "x"}}))
    with pytest.raises(RunFolderError, match="its record is damaged"):
        learn(journey, made, folder)


def test_what_only_scans_have_is_refused(journey, made, capsys):
    with pytest.raises(UsageError, match="measures scans"):
        learn(journey, made, made / "embeddings", "method=scan-statistics")
    options = ["train", str(journey.task), "-o", str(made / "x"), "--embeddings", str(made / "embeddings")]
    assert main(options) == 2 and "only with --quick" in capsys.readouterr().err
    assert main([*options, "--quick", "--slices", "3"]) == 2 and "not with --slices" in capsys.readouterr().err


def test_z_scores_are_embedded_as_training_sees_them(journey):
    """Without the mean and standard deviation of the backbone's images."""
    task = task_of(journey, journey.data / "manifest.csv")
    views = {name: replace(view, normalise="zscore", statistics=None) for name, view in task.views.items()}
    case, loaded = read_manifest(journey.data / "manifest.csv").cases[0], find_backbone(task.backbone.name)
    source = of_backbone(replace(task, views=views), **HOW)
    found = source.embed(source.scans(case), EmbedSettings())
    for name, view in CaseScans(case).prepare(views).views.items():
        images = to_backbone_input(torch.from_numpy(view.slices), loaded.module.patch_size, Encoding())
        with torch.inference_mode():
            expected = loaded.module(images).tokens[:, 0].numpy()
        assert np.abs(found[name] - expected).max() < 1e-5
