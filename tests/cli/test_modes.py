"""G6: whatever the umask, what the program makes is for its user alone, the folders above it included."""

import os

import pytest

from anymc3d.cli.main import main
from anymc3d.explain.folder import ExplainSettings, explain_cohort
from anymc3d.plugins import load_plugin
from anymc3d.plugins.peft import export_peft
from anymc3d.predict.cohort import predict_cohort
from anymc3d.predict.predictor import load
from anymc3d.predict.study import study_case
from anymc3d.settings.task_file import read_task
from anymc3d.train.fit import fit


@pytest.fixture(autouse=True)
def everybody():
    before = os.umask(0)
    yield
    os.umask(before)


def open_to_others(folder):
    made = [folder, *folder.rglob("*")]
    assert len(made) > 1
    return [str(path) for path in made if path.stat().st_mode & 0o077]


def commands(journey, out):
    plugin, scan, manifest = str(journey.plugin), str(journey.scans[0]), str(journey.data / "manifest.csv")
    return {
        "explain": ["explain", "-p", plugin, "-i", scan, "-o", f"{out}/run", "--method", "attention"],
        "predict": ["predict", "-p", plugin, "-i", scan, "-o", f"{out}/run"],
        "doctor": ["doctor", manifest, "-o", f"{out}/run"],
        "plan": ["plan", manifest, "--labels", "block", "-o", f"{out}/task.yaml", "--backbone", "tiny-random"],
        "export": ["plugin", "export", plugin, "-o", f"{out}/peft"],
        "report": ["report", plugin, scan, "-o", f"{out}/page.html"],
    }


@pytest.mark.parametrize("name", ["explain", "doctor", "plan", "export"])
def test_G6_of_a_command(journey, tmp_path, name):
    words = commands(journey, tmp_path / "new" / "parents")[name]
    assert main([*words, "--quiet"]) in (0, 3)
    assert open_to_others(tmp_path / "new") == []


def test_G6_of_a_training_run(journey, tmp_path):
    """Under this umask; the journey's own run was made under the usual one, which would show too."""
    fit(read_task(journey.task, ["train.epochs=1"]), tmp_path / "new" / "run", device="cpu", quiet=True)
    assert open_to_others(tmp_path / "new") == []


def test_G6_of_the_library(journey, tmp_path):
    predictor, case = load(journey.plugin, device="cpu"), study_case(journey.scans[0], None)
    predict_cohort(predictor, [case], tmp_path / "new" / "predict", quiet=True)
    settings = ExplainSettings(methods=("attention",))
    explain_cohort(predictor, [case], tmp_path / "new" / "explain", settings, quiet=True)
    export_peft(load_plugin(journey.plugin), tmp_path / "new" / "peft")
    assert open_to_others(tmp_path / "new") == []
