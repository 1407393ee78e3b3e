"""``anymc3d benchmark --list-tasks`` and ``anymc3d plan --recipe``."""

import json

import nibabel
import numpy as np
import pytest

from anymc3d.cli.main import main
from anymc3d.settings.task_file import read_task


@pytest.fixture
def manifest(tmp_path):
    rng = np.random.default_rng(0)
    lines = ["image,patient,bursa"]
    for index in range(8):
        voxels = rng.gamma(2.0, 100.0, (20, 20, 10)).astype(np.int16)
        nibabel.save(nibabel.Nifti1Image(voxels, np.diag([1.0, 1.0, 3.0, 1.0])), tmp_path / f"{index}.nii")
        lines.append(f"{index}.nii,p{index},{index % 2}")
    (tmp_path / "m.csv").write_text("\n".join(lines))
    return tmp_path / "m.csv"


def test_the_tasks_are_listed_a_line_each(capsys):
    assert main(["benchmark", "--list-tasks"]) == 0
    shown = capsys.readouterr().out
    assert [line.split()[0] for line in shown.splitlines()[1:13]] == [f"T{number}" for number in range(1, 13)]
    assert "288x256x80" in shown


def test_json_has_all_that_a_recipe_says(capsys):
    assert main(["benchmark", "--list-tasks", "--json"]) == 0
    facts = {fact["id"]: fact for fact in json.loads(capsys.readouterr().out)}
    assert facts["T11"]["num_logits"] == 18
    assert facts["T11"]["labels"]["columns"][0] == "Medical material"
    assert facts["T2"]["views"]["image"]["windows"] == [[-150.0, 250.0]]
    assert facts["T3"]["printed"][1]["value"] == 0.984


def test_benchmark_without_a_job_is_wrong_use(capsys):
    assert main(["benchmark"]) == 2
    assert "--list-tasks" in capsys.readouterr().err


def test_a_recipe_becomes_a_task_file_and_its_doubts_are_told(manifest, tmp_path, capsys):
    out = tmp_path / "task.yaml"
    assert main(["plan", str(manifest), "--recipe", "T9", "-o", str(out), "--backbone", "dinov2-small"]) == 0
    shown = capsys.readouterr()
    assert "warning: recipe T9 has a scan per plane" in shown.err
    assert "Traceback" not in shown.err
    assert list(read_task(out).views) == ["axial", "coronal", "sagittal"]
    assert "# paper, Table 3" in out.read_text()


def test_json_of_a_recipe_has_the_warnings(manifest, tmp_path, capsys):
    assert main(["plan", str(manifest), "--recipe", "bursa", "-o", str(tmp_path / "t.yaml"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["warnings"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--recipe", "T99"], "no recipe 'T99'"),
        (["--recipe", "T9", "--views", "axial"], "a recipe has its own views"),
        (["--recipe", "T9", "--roi", "mask"], "a recipe has its own region"),
        (["--recipe", "T12"], "name yours with --labels"),
        ([], "expected --labels"),
        (["--labels", "bursa", "--windows", "lnug"], "did you mean 'lung'"),
        (["--labels", "bursa", "--windows", "lung,bone"], "expected one window"),
        (["--labels", "bursa", "--roi", "mask"], "8 of 8 cases have no mask"),
    ],
)
def test_wrong_use_is_one_line_and_writes_nothing(manifest, tmp_path, capsys, words, expected):
    assert main(["plan", str(manifest), "-o", str(tmp_path / "t.yaml"), "--quiet", *words]) == 2
    error = capsys.readouterr().err
    assert expected in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "t.yaml").exists()


@pytest.mark.parametrize("windows", [["--windows", "-150:250"], ["--windows=-150:250"], ["--windows", "abdomen"]])
def test_windows_of_the_command_line_may_begin_with_a_minus(manifest, tmp_path, windows):
    out = tmp_path / "task.yaml"
    assert main(["plan", str(manifest), "--labels", "bursa", "-o", str(out), "--quiet", *windows]) == 0
    assert read_task(out).views["image"].windows == ((-150.0, 250.0),)
