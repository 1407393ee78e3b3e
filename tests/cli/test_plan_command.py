"""``anymc3d plan`` writes a task file, once, and says why."""

import json

import nibabel
import numpy as np
import pytest

from anymc3d.cli.main import main
from anymc3d.settings.task_file import read_task


@pytest.fixture
def manifest(tmp_path):
    rng = np.random.default_rng(0)
    lines = ["image,tumour"]
    for index in range(8):
        voxels = rng.gamma(2.0, 100.0, (20, 20, 10)).astype(np.int16)
        nibabel.save(nibabel.Nifti1Image(voxels, np.diag([1.0, 1.0, 3.0, 1.0])), tmp_path / f"{index}.nii")
        lines.append(f"{index}.nii,{index % 2}")
    (tmp_path / "m.csv").write_text("\n".join(lines))
    return tmp_path / "m.csv"


def test_the_task_file_is_written_and_shown_with_its_reasons(manifest, tmp_path, capsys):
    out = tmp_path / "task.yaml"
    assert main(["plan", str(manifest), "--labels", "tumour", "-o", str(out)]) == 0
    shown = capsys.readouterr().out
    assert out.read_text() in shown
    assert f"anymc3d train {out}" in shown
    assert read_task(out).data.manifest == str(manifest)
    assert "# " in out.read_text()


def test_an_existing_task_file_is_kept_unless_told_otherwise(manifest, tmp_path, capsys):
    out = tmp_path / "task.yaml"
    out.write_text("mine")
    command = ["plan", str(manifest), "--labels", "tumour", "-o", str(out), "--quiet"]
    assert main(command) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert out.read_text() == "mine"
    assert main([*command, "--overwrite", "--name", "liver"]) == 0
    assert read_task(out).name == "liver"
    assert capsys.readouterr().out == ""


def test_json_has_settings_and_reasons(manifest, tmp_path, capsys):
    out = tmp_path / "task.yaml"
    command = ["plan", str(manifest), "--labels", "tumour", "-o", str(out), "--json", "--views", "axial,coronal"]
    assert main(command) == 0
    printed = json.loads(capsys.readouterr().out)
    assert list(printed["settings"]["views"]) == ["axial", "coronal"]
    assert printed["reasons"]["labels.kind"]


def test_a_faulty_data_set_exits_with_2_and_lists_its_faults(manifest, tmp_path, capsys):
    manifest.write_text(manifest.read_text() + "\ngone.nii,1\nlost.nii,0\n")
    assert main(["plan", str(manifest), "--labels", "tumour", "-o", str(tmp_path / "t.yaml")]) == 2
    error = capsys.readouterr().err
    assert "row 10: " in error
    assert "row 11: " in error
    assert not (tmp_path / "t.yaml").exists()


def test_a_backbone_folder_is_written_relative_to_the_task_file(manifest, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = ["plan", "m.csv", "--labels", "tumour", "-o", "runs/task.yaml", "--backbone", "./weights", "--quiet"]
    assert main(command) == 0
    assert "backbone: ../weights\n" in (tmp_path / "runs" / "task.yaml").read_text()
    assert read_task(tmp_path / "runs" / "task.yaml").backbone.name == str(tmp_path / "weights")
