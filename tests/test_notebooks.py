"""The notebooks run from top to bottom, and are stored without what they printed."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import pytest

NOTEBOOKS = sorted((Path(__file__).resolve().parents[1] / "docs" / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_in_one_namespace(path, tmp_path, monkeypatch, capsys):
    """As a kernel would run it, without one: what is last in a cell is shown, so it is drawn here too."""
    cells = [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    assert cells
    assert not [cell for cell in cells if cell["outputs"] or cell["execution_count"] is not None]
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {}
    for cell in cells:
        code = "".join(cell["source"])
        exec(compile(code, path.name, "exec"), namespace)
        last = code.strip().splitlines()[-1]
        if last.isidentifier():
            assert namespace[last]._repr_html_()
    capsys.readouterr()
    heatmap, scan = (nibabel.load(next(tmp_path.glob(where))) for where in ("heat/*/*.nii.gz", "scans/case01.nii.gz"))
    assert heatmap.shape == scan.shape
    assert (heatmap.affine == scan.affine).all()
