"""Plain methods from scans to plugins, alone and as members of an ensemble of several kinds."""

import numpy as np
import pytest

from anymc3d.benchmark.selection import choose_trial
from anymc3d.cli.main import main
from anymc3d.data.manifest import read_manifest
from anymc3d.errors import ManifestError, UsageError
from anymc3d.explain.heatmaps import explain_case
from anymc3d.files.tables import read_table, write_table
from anymc3d.models.plain import PLAIN
from anymc3d.plugins import load_plugin, save_plugin
from anymc3d.plugins.describe import describe
from anymc3d.plugins.ensemble import make_ensemble
from anymc3d.plugins.needs import needs_of
from anymc3d.predict.predictor import Predictor, load
from anymc3d.report.study import from_plugin
from anymc3d.settings.task_file import read_task
from anymc3d.train.fit import fit
from anymc3d.train.plain.numbers import MOST_VOXELS, choose_measures, voxel_views
from anymc3d.train.quick.run import fit_quick
from anymc3d.train.quick.settings import QuickSettings
from masked_scans import write_masked_scans
from tiny_scans import TASK

SMALL = QuickSettings(outer_folds=3, inner_folds=2, decays=(0.1,), fractions=(), repeats=2, resamples=50)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The tiny scans with a mask each, of the bright block where there is one."""
    import nibabel as nib

    folder = tmp_path_factory.mktemp("plain")
    path = write_masked_scans(folder)
    rows = read_table(path)
    for index, row in enumerate(rows):
        labels = np.zeros((24, 28, 8), np.uint8)
        labels[8:16, 10:18, 2 : 6 + index % 2] = 3
        labels[16 : 18 + index % 3, 10:18, 2:6] = 7
        row |= {"mask": f"masks/case{index:02d}.nii.gz"}
        nib.save(nib.Nifti1Image(labels, np.diag([1.0, 1.0, 3.0, 1.0])), folder / row["mask"])
    write_table(path, list(rows[0]), rows)
    (folder / "task.yaml").write_text(TASK)
    return folder


@pytest.fixture(scope="module")
def runs(data):
    """Method -> run folder, and a frozen plugin beside them."""
    made = {}
    for name in (*PLAIN, "frozen"):
        task = read_task(data / "task.yaml", [f"method={name}", f"name={name}"])
        made[name] = fit_quick(task, data / f"run_{name}", settings=SMALL, device="cpu", quiet=True).parent
    return made


def cases_of(data):
    return list(read_manifest(data / "manifest.csv").cases)


@pytest.mark.parametrize("name", PLAIN)
def test_the_plugin_predicts_what_validation_said(data, runs, name):
    plugin = load_plugin(runs[name] / "plugin.safetensors")
    assert (plugin.card.kind, plugin.card.backbone, plugin.card.method.name) == ("plain", None, name)
    assert bool(plugin.card.structures) == PLAIN[name].needs_mask
    predictor = Predictor([plugin], device="cpu")
    by_id = {case.id: case for case in cases_of(data)}
    for row in read_table(runs[name] / "predictions.val.csv"):
        (again,) = predictor.predict_case(by_id[row["case"]])
        assert again.status == "ok", again.message
        assert again.logits["block"] == pytest.approx(float(row["logit.block"]), abs=1e-4)
        assert again.slice_weights == {} and again.view_weights == {}


def test_what_each_needs_is_said(runs):
    needs = {
        name: [need.kind for need in needs_of(load_plugin(runs[name] / "plugin.safetensors").card)] for name in PLAIN
    }
    assert needs == {name: ["mask"] if PLAIN[name].needs_mask else [] for name in PLAIN}
    shown = "\n".join(
        describe(load_plugin(runs["mask-size"] / "plugin.safetensors"), runs["mask-size"] / "plugin.safetensors")
    )
    assert "no network at all" in shown and "labels 3, 7" in shown and "linear in" in shown


def test_a_size_that_decides_is_found_by_the_mask_alone(runs):
    import json

    report = json.loads((runs["mask-size"] / "quick.json").read_text())
    assert report["out_of_fold_auroc"][0]["value"] == 1.0
    assert report["backbone"] is None and report["grid"] == [{"method": "ridge"}]


@pytest.fixture(scope="module")
def mixed(data, runs):
    """An ensemble of a frozen plugin and two plain ones, of which the first counts as much as both."""
    plugins = [load_plugin(runs[name] / "plugin.safetensors") for name in ("frozen", "mask-size", "voxels")]
    path = data / "mixed.safetensors"
    save_plugin(path, *make_ensemble(plugins, name="mixed", weights=[2.0, 1.0, 1.0]))
    return path, plugins


def test_an_ensemble_of_several_kinds_gives_the_weighted_mean_and_reads_each_scan_once(data, mixed, monkeypatch):
    from anymc3d.data import scan as scan_module

    path, plugins = mixed
    case = cases_of(data)[3]
    alone = [Predictor([plugin], device="cpu").predict_case(case)[0].logits["block"] for plugin in plugins]
    reads, read = [], scan_module.read_volume
    monkeypatch.setattr(scan_module, "read_volume", lambda *given, **more: reads.append(1) or read(*given, **more))
    (found,) = load(path, device="cpu").predict_case(case)
    assert found.logits["block"] == pytest.approx(np.average(alone, weights=[2, 1, 1]), abs=1e-5)
    assert len(reads) == 1


def test_its_file_holds_each_member_as_its_own_file_does(mixed):
    path, plugins = mixed
    again = load_plugin(path)
    assert {member.card.name: member.weight for member in again.card.members} == {
        "frozen": 2.0, "mask-size": 1.0, "voxels": 1.0
    }  # fmt: skip
    assert again.card.is_mixed and again.card.backbone is not None and again.card.sees_slices
    own = {plugin.card.name: plugin for plugin in plugins}
    for member in again.members:
        for name, tensor in own[member.card.name].tensors.items():
            assert (member.tensors[name] == tensor).all(), name
    shown = "\n".join(describe(again, path))
    assert "weight 0.500" in shown and "weighted mean" in shown


def test_heatmaps_are_refused_with_the_reason_and_reports_do_without(data, mixed, runs):
    case = cases_of(data)[1]
    for path, reason in ((mixed[0], "share no attention"), (runs["voxels"] / "plugin.safetensors", "has no network")):
        predictor = load(path, device="cpu")
        with pytest.raises(UsageError, match=reason):
            explain_case(predictor, case, methods=["attention"])
        assert from_plugin(predictor, case, method="attention").maps == ()


def test_predict_evaluate_and_ensemble_take_them(data, runs, tmp_path):
    plugins = [str(runs[name] / "plugin.safetensors") for name in ("foreground", "scan-statistics")]
    manifest = str(data / "manifest.csv")
    assert main(["ensemble", *plugins, "-o", str(tmp_path / "both.safetensors"), "--quiet"]) == 0
    assert not load_plugin(tmp_path / "both.safetensors").card.sees_slices
    given = ["-p", str(tmp_path / "both.safetensors"), "-i", manifest, "-o", str(tmp_path / "out"), "--quiet"]
    assert main(["predict", *given, "--device", "cpu"]) == 0
    rows = read_table(tmp_path / "out" / "predictions.csv")
    assert {row["status"] for row in rows} == {"ok"}
    assert main(["evaluate", str(tmp_path / "out" / "predictions.csv"), manifest, "-o", str(tmp_path / "ev")]) == 0


def test_a_case_without_a_mask_is_an_error_row_and_training_without_masks_is_refused(journey, data, runs, tmp_path):
    predictor = load(runs["mask-size"] / "plugin.safetensors", device="cpu")
    found = predictor.predict_case(next(iter(read_manifest(journey.data / "manifest.csv").cases)))[0]
    assert found.status == "error" and "its segmentation is needed" in found.message
    task = read_task(journey.task, ["method=mask-size"])
    with pytest.raises(UsageError, match="needs a segmentation of every scan, and 16 of 16 cases have none"):
        fit_quick(task, tmp_path / "run", settings=SMALL, device="cpu", quiet=True)


def test_measures_of_another_version_are_refused(runs, data, monkeypatch):
    from anymc3d.predict import plain_numbers

    monkeypatch.setattr(plain_numbers, "MEASURES_VERSION", 99)
    found = load(runs["foreground"] / "plugin.safetensors", device="cpu").predict_case(cases_of(data)[0])[0]
    assert found.status == "error" and "this program has version 99" in found.message


def test_measures_that_few_cases_have_or_that_never_differ_are_left_out(data):
    cases = cases_of(data)
    found = [{"image/1/absent": 0.0, "image/1/volume_ml": 1.0 + i, "image/1/fill": 0.5} for i in range(20)]
    found[3]["image/2/volume_ml"] = 7.0
    numbers = choose_measures(found, cases, "mask-size")
    assert numbers.names == ("image/1/volume_ml",) and numbers.structures == (1,)
    with pytest.raises(ManifestError, match="no measure differs"):
        choose_measures([{"image/1/fill": 0.5}] * 20, cases, "mask-size")


def test_a_grid_of_voxels_is_made_coarse_in_proportion():
    from anymc3d.settings.views import ViewSettings

    views = voxel_views({"image": ViewSettings(size=(224, 112, 56))})
    first, second, slices = views["image"].size
    assert first * second * slices <= MOST_VOXELS * 1.1
    assert first / second == pytest.approx(2, rel=0.05) and second / slices == pytest.approx(2, rel=0.1)
    small = {"image": ViewSettings(size=(20, 20, 20))}
    assert voxel_views(small) == small


def test_without_quick_it_is_fitted_at_once_and_folds_and_a_benchmark_take_it(data, runs, tmp_path, capsys):
    task = read_task(data / "task.yaml", ["method=mask-size", "name=mask-size"])
    again = fit(task, tmp_path / "run", device="cpu", quiet=True)
    assert load_plugin(again).card.kind == "plain"
    assert choose_trial([tmp_path / "run"])[1] == [{"epoch": None, "val_auroc": 1.0, "val_loss": None}]
    given = ["train", str(data / "task.yaml"), "method=mask-size", "-o", str(tmp_path / "folds"), "--folds", "2"]
    assert main([*given, "--device", "cpu", "--quiet"]) == 0
    assert len(read_table(tmp_path / "folds" / "oof.csv")) == 20
    capsys.readouterr()
    assert main(["benchmark", "--list-methods"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in PLAIN)
