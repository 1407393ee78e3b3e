"""train --quick end to end on tiny scans: what it leaves, what it keeps, and that test rows take no part."""

import csv
import json
import logging
import os
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from anymc3d.cli.main import main
from anymc3d.data.cache_size import entry_path
from anymc3d.errors import InterruptedRunError, ManifestError, RunFolderError, ScanError, UsageError
from anymc3d.files.tables import read_table, write_table
from anymc3d.models.store import find_backbone
from anymc3d.plugins import load_plugin
from anymc3d.predict import encode as encode_module
from anymc3d.predict.predictor import load
from anymc3d.printable import escape
from anymc3d.settings.task_file import read_task
from anymc3d.settings.views import ViewSettings
from anymc3d.train.fit import fit
from anymc3d.train.quick import features as features_module
from anymc3d.train.quick import prepare as quick_prepare
from anymc3d.train.quick import run as quick_run
from anymc3d.train.quick import subject as quick_subject
from anymc3d.train.quick.curve import Curve, CurvePoint, Estimate, Gain
from anymc3d.train.quick.features import FeatureCache, feature_key
from anymc3d.train.quick.picture import draw_curve
from anymc3d.train.quick.run import fit_quick
from anymc3d.train.quick.settings import QuickSettings
from anymc3d.train.quick.summary import lines
from anymc3d.train.stopping import StopRequest
from damage import STAND_INS, flipped
from tiny_scans import TASK, write_scans

SMALL = QuickSettings(outer_folds=3, inner_folds=2, decays=(0.1,), fractions=(0.5,), repeats=2, resamples=100)
NO_CURVE = replace(SMALL, fractions=())
SPLITS = ["train"] * 12 + ["val"] * 4 + ["test"] * 4


def write_manifest(journey, path, **columns):
    """The journey's scans with a split; the test rows are the last four. ``columns``: name -> cell of row i."""
    rows = read_table(journey.data / "manifest.csv")
    for index, row in enumerate(rows):
        row |= {"image": str(journey.data / row["image"]), "split": SPLITS[index]}
        row |= {name: cell(index) for name, cell in columns.items()}
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def quick(journey, manifest, out, *overrides, settings=SMALL):
    task = read_task(journey.task, [f"data.manifest={manifest}", *overrides])
    return fit_quick(task, out, settings=settings, device="cpu", quiet=True)


@pytest.fixture(scope="module")
def done(journey, tmp_path_factory):
    folder = tmp_path_factory.mktemp("quick")
    report = quick(journey, write_manifest(journey, folder / "manifest.csv"), folder / "run")
    return folder, json.loads(report.read_text())


def forbid_backbone(monkeypatch):
    def forbidden(*_):
        raise AssertionError("the backbone was run again")

    monkeypatch.setattr(features_module, "frozen_parts", forbidden)


def test_a_run_leaves_a_plugin_figures_a_picture_and_the_task(done):
    folder, _ = done
    names = {path.name for path in (folder / "run").iterdir()}
    assert names >= {"plugin.safetensors", "oof.csv", "oof_metrics.csv", "quick.json", "quick.png", "task.yaml"}
    assert names >= {"manifest.csv", "metrics.csv", "predictions.val.csv", "log.jsonl", "run.json"}
    assert load_plugin(folder / "run" / "plugin.safetensors").card.method.name == "frozen"
    stages = [json.loads(line) for line in (folder / "run" / "log.jsonl").read_text().splitlines()]
    assert all(stage["seconds"] >= 0 and stage["cpu_seconds"] >= 0 for stage in stages)
    (of_features,) = [stage for stage in stages if stage["stage"] == "features"]
    assert of_features["computed"] + of_features["reused"] == 16, "one entry per scan outside the test split"


def test_every_case_outside_the_test_split_is_held_out_once(done):
    folder, report = done
    rows = read_table(folder / "run" / "oof.csv")
    assert [row["case"] for row in rows] == [f"case{i:02d}" for i in range(16)]
    assert {row["fold"] for row in rows} == {"0", "1", "2"}
    figures = [row for row in read_table(folder / "run" / "oof_metrics.csv") if row["metric"] == "auroc"]
    assert [row["n"] for row in figures] == ["16"]
    assert float(figures[0]["value"]) == report["out_of_fold_auroc"][0]["value"]
    assert report["cases"] == {"pool": 16, "patients": 16, "train": 12, "val": 4, "outer_folds": 3}
    assert [point["fraction"] for point in report["learning_curve"]] == [0.5, 1.0]
    assert report["more_data"]["answer"] and report["lora"]["because"]


def test_a_second_run_computes_no_feature_and_repeats_every_byte(done, journey, tmp_path, monkeypatch, drawn):
    """The resolved task of a run repeats it; the cached features stand for the backbone."""
    folder = done[0]
    forbid_backbone(monkeypatch)
    task = read_task(folder / "run" / "task.yaml")
    fit_quick(task, tmp_path / "again", settings=SMALL, device="cpu", quiet=True)
    for name in ("plugin.safetensors", "quick.json", "oof.csv", "predictions.val.csv"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / "run" / name).read_bytes(), name
    with Image.open(tmp_path / "again" / "quick.png") as picture:
        assert picture.size == (768, 576)
    (line,) = [line for line in (tmp_path / "again" / "log.jsonl").read_text().splitlines() if '"features"' in line]
    assert (json.loads(line)["computed"], json.loads(line)["reused"]) == (0, 16)


def test_B16_test_labels_change_no_byte(done, journey, tmp_path):
    flip = write_manifest(journey, tmp_path / "m.csv", block=lambda i: i % 2 if i < 16 else 1 - i % 2)
    quick(journey, flip, tmp_path / "run")
    for name in ("plugin.safetensors", "quick.json", "oof.csv", "oof_metrics.csv", "metrics.csv", "run.json"):
        assert (tmp_path / "run" / name).read_bytes() == (done[0] / "run" / name).read_bytes(), name


def test_the_run_has_a_report_of_what_was_found(done, tmp_path):
    folder, report = done
    assert main(["report", str(folder / "run"), "-o", str(tmp_path / "r.html"), "--worst", "1", "--quiet"]) == 0
    page = (tmp_path / "r.html").read_text()
    for line in lines(report):
        assert escape(line) in page
    assert "data:image/png;base64," in page and "on the cases out of fold" in page and "ROC" in page
    card = load_plugin(folder / "run" / "plugin.safetensors").card
    assert [row["n"] for row in card.out_of_fold] == [16, 16] and "rank" not in page


def test_the_picture_holds_every_interval_whole(monkeypatch, tmp_path):
    """Down to the lowest interval, draw and fitted value, none of which an AUROC below 0 takes off the page."""
    drawn = []
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda figure, *_, **__: drawn.append(figure.axes[0]))
    points = [
        CurvePoint(fraction=f, num_train=n, auroc=Estimate(0.45, low, 0.7), draws=(0.3, 0.6))
        for f, n, low in ((0.5, 10, 0.15), (1.0, 20, 0.2))
    ]
    gain = Gain(Estimate(0.01, -0.6, 0.2), Estimate(0.01, -0.1, 0.1), {})
    draw_curve(tmp_path / "q.png", Curve(tuple(points), gain), title="t", trivial=Estimate(0.5, 0.4, 0.6))
    low, high = drawn[0].get_ylim()
    ends = [float(y) for line in drawn[0].get_lines() for y in line.get_ydata()]
    assert low < min(ends) == 0.0 and high == 1.0


def test_the_plugin_predicts_what_validation_said(done, journey):
    predictor = load(done[0] / "run" / "plugin.safetensors", device="cpu")
    for row in read_table(done[0] / "run" / "predictions.val.csv"):
        again = predictor.predict(journey.data / "scans" / f"{row['case']}.nii.gz")
        assert again.logits["block"] == pytest.approx(float(row["logit.block"]), abs=1e-4)
        assert str(again.decisions["block"]) == row["decision.block"]


def test_the_same_command_again_does_nothing(done, journey, monkeypatch, caplog):
    plugin = done[0] / "run" / "plugin.safetensors"
    before = (plugin.stat().st_mtime_ns, plugin.read_bytes())
    monkeypatch.setattr(quick_subject, "prepare_all", None)
    with caplog.at_level(logging.INFO):
        quick(journey, done[0] / "manifest.csv", done[0] / "run")
    assert "nothing to do" in caplog.text
    assert (plugin.stat().st_mtime_ns, plugin.read_bytes()) == before


def test_C13_folders_of_other_runs_are_refused(done, journey):
    with pytest.raises(RunFolderError, match="holds a training run"):
        quick(journey, done[0] / "manifest.csv", journey.run)
    task = read_task(journey.task, [f"data.manifest={done[0] / 'manifest.csv'}"])
    with pytest.raises(RunFolderError, match="kind was 'quick'"):
        fit(task, done[0] / "run", device="cpu", quiet=True)
    with pytest.raises(RunFolderError, match="repeats was 2, now 3"):
        quick(journey, done[0] / "manifest.csv", done[0] / "run", settings=replace(SMALL, repeats=3))


def test_features_of_a_stopped_run_are_kept(done, journey, tmp_path, monkeypatch):
    """Another size has features of its own; after a kill in the middle only the rest is computed."""
    manifest, smaller = done[0] / "manifest.csv", "views.image.size=[28,28,2]"
    encode, calls = features_module.frozen_parts, []

    def dies(*arguments):
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return encode(*arguments)

    monkeypatch.setattr(features_module, "frozen_parts", dies)
    with pytest.raises(KeyboardInterrupt):
        quick(journey, manifest, tmp_path / "run", smaller, settings=NO_CURVE)
    asked = StopRequest()
    asked.signal = 15
    monkeypatch.setattr(quick_run, "listening", lambda: _Held(asked))
    with pytest.raises(InterruptedRunError, match="the same command goes on") as caught:
        quick(journey, manifest, tmp_path / "run", smaller, settings=NO_CURVE)
    assert caught.value.exit_code == 75
    monkeypatch.setattr(quick_run, "listening", lambda: _Held(StopRequest()))
    quick(journey, manifest, tmp_path / "run", smaller, settings=NO_CURVE)
    assert len(calls) == 6 + 11


class _Held:
    def __init__(self, value):
        self.value = value

    def __enter__(self):
        return self.value

    def __exit__(self, *_):
        return None


def test_a_damaged_or_foreign_entry_is_made_again(done, caplog):
    cache = FeatureCache()
    found = {path.name: cache.get(path.stem) for path in cache.folder.rglob("*.safetensors")}
    names = sorted(name for name, one in found.items() if set(one.parts) == {"class"} and len(one.parts["class"]) == 4)
    name = names[0]
    key, path = name.removesuffix(".safetensors"), entry_path(cache.folder, name)
    good = path.read_bytes()
    assert cache.get(key).tokens("class").shape == (4, 128)
    for bad in (good[:-3] + b"abc", good[:50], b"", entry_path(cache.folder, names[1]).read_bytes()):
        path.write_bytes(bad)
        assert cache.get(key) is None
        assert "damaged" in caplog.text
    path.write_bytes(good)
    kept = cache.get(key)
    for changed in flipped(good, 300):
        path.write_bytes(changed)
        found = cache.get(key)
        assert found is None or all(np.array_equal(found.parts[part], kept.parts[part]) for part in kept.parts)
    for name in ("pipe", "folder", "endless device"):
        STAND_INS[name](path)
        assert cache.get(key) is None
    path.unlink(missing_ok=True)
    path.write_bytes(good)
    assert path.stat().st_mode & 0o077 == 0 or cache.folder.stat().st_mode & 0o077 == 0


def test_whatever_decides_the_features_is_in_their_key():
    backbone, view = find_backbone("tiny-random"), ViewSettings(size=(28, 28, 4))
    slices = np.zeros((4, 1, 28, 28), dtype=np.float16)
    changed = slices.copy()
    changed[3, 0, 27, 27] = 0.5
    keys = {
        feature_key(slices, view, backbone, "official"),
        feature_key(changed, view, backbone, "official"),
        feature_key(slices.reshape(2, 1, 28, 56), view, backbone, "official"),
        feature_key(slices, replace(view, input="neighbours"), backbone, "official"),
        feature_key(slices, view, replace(backbone, fingerprint="sha256:other"), "official"),
        feature_key(slices, view, backbone, "hf"),
        feature_key(slices, view, backbone, "official", ("class", "mean")),
        feature_key(slices, view, backbone, "official", ("mask",), np.zeros((4, 28, 28), np.uint8), (1,)),
        feature_key(slices, view, backbone, "official", ("mask",), np.ones((4, 28, 28), np.uint8), (1,)),
        feature_key(slices, view, backbone, "official", ("mask",), np.ones((4, 28, 28), np.uint8), (1, 2)),
    }
    assert len(keys) == 10


@pytest.mark.parametrize(
    ("labels", "columns"),
    [
        ("{columns: [grade], kind: multiclass, classes: [a, b, c]}", {"grade": lambda i: "abc"[i % 3]}),
        ("{columns: [grade], kind: ordinal, classes: [a, b, c]}", {"grade": lambda i: "abc"[i % 3]}),
        (
            "{columns: [block, other], kind: multilabel, classes: []}",
            {"other": lambda i: "" if i % 5 == 0 else i // 2 % 2},
        ),
    ],
    ids=["multiclass", "ordinal", "multilabel with missing labels"],
)
def test_every_kind_of_labels(journey, done, tmp_path, labels, columns, monkeypatch):
    forbid_backbone(monkeypatch)
    manifest = write_manifest(journey, tmp_path / "m.csv", **columns)
    run = quick(journey, manifest, tmp_path / "run", f"labels={labels}", settings=NO_CURVE)
    report = json.loads(run.read_text())
    plugin = load_plugin(tmp_path / "run" / "plugin.safetensors")
    assert report["headline"] == "macro"
    assert [row["label"] for row in report["out_of_fold_auroc"]] == [*plugin.card.labels.output_names, "macro"]
    macro = report["out_of_fold_auroc"][-1]
    assert macro["method"].startswith("bootstrap") or macro["low"] is None
    assert len(read_table(tmp_path / "run" / "oof.csv")) == 16


def test_B14_too_few_cases_of_a_class_are_told_before_the_backbone_is_loaded(journey, tmp_path, monkeypatch):
    monkeypatch.setattr(quick_prepare, "find_backbone", None)
    manifest = write_manifest(journey, tmp_path / "m.csv", block=lambda i: int(i in (1, 13, 17)))
    with pytest.raises(ManifestError, match=r"expected 3 patients or more with block = '1' .* got 2"):
        quick(journey, manifest, tmp_path / "run")
    assert not (tmp_path / "run" / "run.json").exists()


def test_cases_that_are_left_out_by_their_regions_are_in_nothing(done, journey, tmp_path, monkeypatch):
    read = quick_subject.prepare_all

    def without_the_first(*arguments, **options):
        found = read(*arguments, **options)
        return [replace(found[0], scans={}, hashes={}, excluded="too small"), *found[1:]]

    monkeypatch.setattr(quick_subject, "prepare_all", without_the_first)
    report = json.loads(quick(journey, done[0] / "manifest.csv", tmp_path / "run", settings=NO_CURVE).read_text())
    assert (report["cases"]["pool"], report["cases"]["train"]) == (15, 11)
    assert [row["case"] for row in read_table(tmp_path / "run" / "oof.csv")] == [f"case{i:02d}" for i in range(1, 16)]


def test_the_command_prints_figures_and_both_answers(done, journey, monkeypatch, capsys, tmp_path):
    seen = {}

    def stub(task, out, *, settings, **_others):
        seen.update(settings=settings, out=out)
        return done[0] / "run" / "quick.json"

    monkeypatch.setattr(quick_run, "fit_quick", stub)
    command = ["train", str(journey.task), "-o", str(tmp_path / "run"), "--quick"]
    assert main([*command, "--slices", "3"]) == 0
    said = capsys.readouterr().out
    assert "out-of-fold AUROC block: " in said and "chance is 0.5" in said
    assert "more data: " in said and "LoRA: " in said and "Research use only" in said
    assert seen["settings"] == QuickSettings(slices=3)
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == done[1]
    for wrong in (["--folds", "3"], ["--slices", "0"], ["--slices", "few"]):
        assert main([*command, *wrong]) == 2
    assert main([*command[:-1], "--slices", "3"]) == 2


@pytest.fixture(scope="module")
def masked(tmp_path_factory):
    """The tiny scans, of which every one has a mask of two structures."""
    folder = tmp_path_factory.mktemp("masked")
    path = write_scans(folder)
    rows = read_table(path)
    (folder / "masks").mkdir()
    for index, row in enumerate(rows):
        labels = np.zeros((24, 28, 8), np.uint8)
        labels[6:12, 8:20, 1:7], labels[12:16, 8:20, 1:7] = 3, 7
        row |= {"mask": f"masks/{index:02d}.nii.gz", "split": SPLITS[index]}
        nib.save(nib.Nifti1Image(labels, np.diag([1.0, 1.0, 3.0, 1.0])), folder / row["mask"])
    write_table(path, list(rows[0]), rows)
    (folder / "task.yaml").write_text(TASK)
    return folder


def test_every_representation_competes_and_the_chosen_one_predicts_what_validation_said(masked, tmp_path, monkeypatch):
    """Of a backbone of two blocks last4 is left out, with the reason; the plugin of each is the same in predict."""
    passes, made = features_module.frozen_parts, []
    monkeypatch.setattr(features_module, "frozen_parts", lambda *given: made.append(1) or passes(*given))
    views = "views={axial: {size: [28, 28, 4], plane: axial}, sagittal: {size: [28, 14, 3], plane: sagittal}}"
    task = read_task(masked / "task.yaml", [views, "features=all"])
    report = json.loads(fit_quick(task, tmp_path / "all", settings=NO_CURVE, device="cpu", quiet=True).read_text())
    assert len(made) == 2 * 16, "one pass a scan and view gives them all"
    assert [one["features"] for one in report["grid"]] == [
        *["class"] * 2, *["class+mean"] * 2, *["class+mean+max"] * 2, "mask", "place"
    ]  # fmt: skip
    assert any("last4 needs class tokens of four blocks" in note for note in report["notes"])
    for name in ("class+mean", "mask", "place"):
        out = tmp_path / name
        task = read_task(masked / "task.yaml", [views, f"features={name}"])
        fit_quick(task, out, settings=NO_CURVE, device="cpu", quiet=True)
        card = load_plugin(out / "plugin.safetensors").card
        assert (card.features, card.structures) == (name, (3, 7) if name == "mask" else ())
        predictor = load(out / "plugin.safetensors", device="cpu")
        for row in read_table(out / "predictions.val.csv")[:2]:
            index = int(row["case"][-2:])
            mask = masked / "masks" / f"{index:02d}.nii.gz" if name == "mask" else None
            again = predictor.predict(masked / "scans" / f"case{index:02d}.nii.gz", mask=mask)
            assert again.logits["block"] == pytest.approx(float(row["logit.block"]), abs=1e-4)
    with pytest.raises(ScanError, match="needs its segmentation"):
        load(tmp_path / "mask" / "plugin.safetensors", device="cpu").predict(masked / "scans" / "case00.nii.gz")


def test_a_representation_that_cannot_be_is_refused_before_a_scan_is_read(journey, done, tmp_path):
    manifest = done[0] / "manifest.csv"
    for override, expected in (
        ("features=mask", "needs a segmentation of every scan, and 16 of 16 cases have none"),
        ("features=last4", "needs class tokens of four blocks"),
        ("features=class,plase", "unknown name 'plase', did you mean 'place'"),
    ):
        with pytest.raises(UsageError, match=expected):
            quick(journey, manifest, tmp_path / "run", override)
    for override, expected in (
        ("features=class,place", "only --quick chooses among several"),
        ("features=mask", "is for frozen backbones; add --quick"),
        ("features=place", "set fusion=concat"),
    ):
        task = read_task(journey.task, [f"data.manifest={manifest}", override])
        with pytest.raises(UsageError, match=expected):
            fit(task, tmp_path / "run", device="cpu", quiet=True)


def test_frozen_plugins_that_see_the_same_slices_share_a_pass(journey, done, tmp_path, monkeypatch):
    paths = [done[0] / "run" / "plugin.safetensors"]
    for name in ("class+mean", "place"):
        quick(journey, done[0] / "manifest.csv", tmp_path / name, f"features={name}", f"name={name}", settings=NO_CURVE)
        paths.append(tmp_path / name / "plugin.safetensors")
    alone = [load(path, device="cpu").predict(journey.scans[0]).logits for path in paths]
    passes, made = encode_module.frozen_parts, []
    monkeypatch.setattr(encode_module, "frozen_parts", lambda *given: made.append(1) or passes(*given))
    together = load(paths, device="cpu").predict(journey.scans[0])
    assert len(made) == 1
    for one, expected in zip(together, alone, strict=True):
        assert one.logits["block"] == pytest.approx(expected["block"], abs=1e-6)


def test_features_beyond_the_limit_go_when_nobody_uses_them(tmp_path, monkeypatch):
    found = features_module.ViewFeatures({"class": np.zeros((4, 100), np.float32)}, np.zeros(4, np.float32))
    cache = FeatureCache(tmp_path / "features")
    for index in range(4):
        cache.put(f"{index:064x}", found)
        os.utime(entry_path(cache.folder, f"{index:064x}.safetensors"), (index + 1, index + 1))
    cache.get(f"{0:064x}")
    monkeypatch.setattr(features_module, "LIMIT_BYTES", 4000)
    cache.trim()
    assert sorted(path.stem[-1] for path in cache.folder.rglob("*.safetensors")) == ["0", "3"]


def test_a_classifier_that_chance_could_be_is_not_recommended(done):
    report = json.loads(json.dumps(done[1]))
    for low, doubted in ((0.41, True), (0.62, False)):
        report["out_of_fold_auroc"][0] |= {"value": 0.7, "low": low, "high": 0.8}
        assert any("not shown to be better than chance" in line for line in lines(report)) is doubted
