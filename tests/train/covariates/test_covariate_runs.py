"""Covariates from the manifest to plugins, answers and the paired tests of what they add."""

import json

import numpy as np
import pytest

from anymc3d.cli.main import main
from anymc3d.data.manifest import read_manifest
from anymc3d.errors import RunFolderError, UsageError
from anymc3d.files.tables import read_table, write_table
from anymc3d.plugins import load_plugin, save_plugin
from anymc3d.plugins.describe import describe
from anymc3d.plugins.ensemble import make_ensemble
from anymc3d.plugins.needs import needs_of
from anymc3d.predict.predictor import load
from anymc3d.settings.task_file import read_task
from anymc3d.train.fit import fit
from anymc3d.train.quick.run import fit_quick
from anymc3d.train.quick.settings import QuickSettings
from tiny_scans import TASK, write_scans

SMALL = QuickSettings(outer_folds=3, inner_folds=2, decays=(0.1,), fractions=(), repeats=2, resamples=50)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The tiny scans with an age that goes with the label, which two cases lack, and a site that does not."""
    folder = tmp_path_factory.mktemp("covariates")
    path = write_scans(folder, 24)
    rows = read_table(path)
    for index, row in enumerate(rows):
        row["age"] = "" if index in (4, 11) else str(50 + 8 * (index % 2) + (index * 7) % 12)
        row["site"] = str(1 + index % 3)
        row["copy"] = "yes" if row["block"] == "1" else "no"
    write_table(path, list(rows[0]), rows)
    (folder / "task.yaml").write_text(TASK + "covariates: [age, sex, 'category:site']\n")
    return folder


@pytest.fixture(scope="module")
def quick(data):
    task = read_task(data / "task.yaml")
    return fit_quick(task, data / "quick", settings=SMALL, device="cpu", quiet=True).parent


def case_of(data, number):
    return read_manifest(data / "manifest.csv").cases[number]


def test_the_plugin_answers_as_validation_said_with_both_parts(data, quick):
    plugin = load_plugin(quick / "plugin.safetensors")
    record = plugin.card.covariates
    assert [(one.name, one.kind) for one in record.columns] == [
        ("age", "number"), ("sex", "category"), ("site", "category")
    ]  # fmt: skip
    by_id = {case.id: case for case in read_manifest(data / "manifest.csv").cases}
    predictor = load(quick / "plugin.safetensors", device="cpu")
    for row in read_table(quick / "predictions.val.csv"):
        (found,) = predictor.predict_case(by_id[row["case"]])
        assert found.logits["block"] == pytest.approx(float(row["logit.block"]), abs=1e-4)
        assert found.image_logits["block"] == pytest.approx(float(row["image.block"]), abs=1e-4)
        assert found.covariate_logits["block"] == pytest.approx(float(row["covariates.block"]), abs=1e-6)
        model = record.model
        both = model.image[0] * found.image_logits["block"] + model.covariates[0] * found.covariate_logits["block"]
        assert found.logits["block"] == pytest.approx(both + model.shift[0], abs=1e-5)


@pytest.fixture(scope="module")
def bare(data):
    """The same without covariates."""
    task = read_task(data / "task.yaml", ["covariates=[]"])
    return fit_quick(task, data / "bare", settings=SMALL, device="cpu", quiet=True).parent


def test_the_image_alone_is_the_plugin_without_covariates(data, quick, bare):
    case = case_of(data, 2)
    (found,) = load(quick / "plugin.safetensors", device="cpu").predict_case(case)
    (alone,) = load(bare / "plugin.safetensors", device="cpu").predict_case(case)
    assert found.image_logits["block"] == pytest.approx(alone.logits["block"], abs=1e-6) and not alone.image_logits
    given, own = (json.loads((run / "quick.json").read_text()) for run in (quick, bare))
    assert given["learning_curve"] == own["learning_curve"] and own["covariates"] is None
    assert [row["what"] for row in given["covariates"]["answers"]] == ["both", "image alone", "covariates alone"]


def test_what_is_missing_or_unlike_the_training_rows_is_said(quick, data):
    predictor = load(quick / "plugin.safetensors", device="cpu")
    scan = case_of(data, 3).images["image"]
    told = predictor.predict(scan, covariates={"age": 140, "sex": "X"})
    assert told.status == "warn"
    for text in (
        "age is 140, the training cases have",
        "sex is 'X', which no training case has (F, M)",
        "site is missing",
    ):
        assert text in told.message
    whole = predictor.predict(scan, covariates={"age": 55.0, "sex": "F", "site": 2})
    assert whole.status == "ok" and whole.covariate_logits != told.covariate_logits
    row = read_table(data / "manifest.csv")[3] | {"age": "old"}
    write_table(data / "odd.csv", list(row), [row])
    (odd,) = predictor.predict_case(read_manifest(data / "odd.csv").cases[0])
    assert odd.status == "error" and "covariate age: expected a number or an empty cell, got 'old'" in odd.message


def test_commands_take_them_and_evaluate_says_what_they_add(data, quick, tmp_path, capsys):
    plugin, manifest = str(quick / "plugin.safetensors"), str(data / "manifest.csv")
    assert main(["predict", "-p", plugin, "-i", manifest, "-o", str(tmp_path / "p"), "--device", "cpu", "--quiet"]) == 0
    capsys.readouterr()
    assert main(["evaluate", str(tmp_path / "p" / "predictions.csv"), manifest, "-o", str(tmp_path / "e")]) == 0
    shown = capsys.readouterr().out
    assert "image alone" in shown and "both - covariates alone" in shown
    rows = read_table(tmp_path / "e" / "metrics.csv")
    found = {row["plugin"]: row for row in rows if row["metric"] == "auroc"}
    assert set(found) == {"", "image alone", "covariates alone"}
    p_values = [row for row in rows if row["metric"] == "auroc_difference_p"]
    assert {row["plugin"] for row in p_values} == {
        "both - image alone", "both - covariates alone", "image alone - covariates alone"
    }  # fmt: skip
    assert "## Image and covariates" in (tmp_path / "e" / "table.md").read_text()
    scan = case_of(data, 3).images["image"]
    given = ["-i", scan, "-o", str(tmp_path / "one"), "--device", "cpu", "--quiet"]
    some = ["--covariate", "age=61", "--covariate", "sex=M", "--covariate", "site=1"]
    assert main(["predict", "-p", plugin, *given, *some]) == 0
    assert read_table(tmp_path / "one" / "predictions.csv")[0]["status"] == "ok"
    assert main(["predict", "-p", plugin, *given, "--covariate", "age"]) == 2
    assert main(["predict", "-p", plugin, *given, "--covariate", "agee=3"]) == 2
    assert "takes age, sex, site, did you mean 'age'" in capsys.readouterr().err
    with pytest.raises(UsageError, match="no such covariate of the plugin"):
        load(quick / "plugin.safetensors", device="cpu").predict(scan, covariates={"weight": 70})


def test_the_card_shows_them(quick):
    path = quick / "plugin.safetensors"
    plugin = load_plugin(path)
    shown = "\n".join(describe(plugin, path))
    assert "age (5" in shown and "site (1, 2, 3)" in shown and "covariates: age, sex, site" in shown
    assert [need.kind for need in needs_of(plugin.card)] == ["backbone", "covariate"]


def test_an_ensemble_joins_each_member_with_its_own(data, quick, bare, tmp_path):
    pair = [load_plugin(run / "plugin.safetensors") for run in (quick, bare)]
    save_plugin(tmp_path / "both.safetensors", *make_ensemble(pair, name="both", weights=[3.0, 1.0]))
    case = case_of(data, 5)
    (found,) = load(tmp_path / "both.safetensors", device="cpu").predict_case(case)
    alone = [load(data / run / "plugin.safetensors", device="cpu").predict_case(case)[0] for run in ("quick", "bare")]
    logits = [one.logits["block"] for one in alone]
    assert found.logits["block"] == pytest.approx(np.average(logits, weights=[3, 1]), abs=1e-5)
    assert found.image_logits and found.covariate_logits


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ("[block]", "block is the label itself"),
        ("[copy]", "copy repeats the label block"),
        ("[agee]", "no column 'agee', did you mean 'age'"),
        ("[age, age]", "age appears twice"),
        ("['measure:volume']", "expected measure:<image column>/<what>/<measure>"),
    ],
)
def test_what_cannot_be_a_covariate_is_refused_before_anything_is_computed(data, tmp_path, names, words, capsys):
    command = ["train", str(data / "task.yaml"), "-o", str(tmp_path / "run"), f"covariates={names}", "--device", "cpu"]
    assert main(command) == 2
    told = capsys.readouterr().err
    assert words in told and not (tmp_path / "run" / "log.jsonl").exists()


def test_training_by_steps_joins_them_on_validation_and_resumes_only_with_the_same(data, tmp_path):
    given = ["train.epochs=1", "covariates=[age, 'measure:image/scan/raw_p995']"]
    path = fit(read_task(data / "task.yaml", given), tmp_path / "run", device="cpu", quiet=True)
    record = load_plugin(path).card.covariates
    assert record.names == ("age", "measure:image/scan/raw_p995") and record.measures_version
    rows = read_table(tmp_path / "run" / "predictions.val.csv")
    assert record.model.joined_on == len(rows)
    by_id = {case.id: case for case in read_manifest(data / "manifest.csv").cases}
    (found,) = load(path, device="cpu").predict_case(by_id[rows[0]["case"]])
    assert found.logits["block"] == pytest.approx(float(rows[0]["logit.block"]), abs=1e-4)
    with pytest.raises(RunFolderError):
        fit(read_task(data / "task.yaml", ["train.epochs=1", "covariates=[age]"]), tmp_path / "run", device="cpu")


def test_a_task_without_covariates_has_the_identity_it_had(tmp_path):
    from anymc3d.train.start import settings_of_run

    (tmp_path / "task.yaml").write_text(TASK)
    task = read_task(tmp_path / "task.yaml", ["backbone=tiny-random"])
    assert "covariates" not in settings_of_run(task)
    with pytest.raises(UsageError, match="block is the label itself"):
        from dataclasses import replace

        replace(task, covariates=("block",))
