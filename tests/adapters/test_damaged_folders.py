"""Folders damaged at random end in findings or a manifest: never in a traceback, and never in half a manifest."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import public_layouts as layouts
import pytest
from damaged_bytes import damaged

from anymc3d.adapters.ct_rate import FINDINGS
from anymc3d.cli.main import main
from anymc3d.data.manifest import inspect_manifest

MAKERS = {
    "ratic": layouts.make_ratic,
    "panorama": layouts.make_panorama,
    "ct-rate": lambda folder: layouts.make_ct_rate(folder, FINDINGS),
    "nnunet": layouts.make_nnunet,
    "monai": layouts.make_monai,
    "bids": lambda folder: layouts.make_bids(folder, sessions=True),
    "folders": layouts.make_class_folders,
}


def harm(folder: Path, chance: random.Random) -> None:
    """One to three files changed, removed or replaced by folders; tables three times out of four."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    tables = [path for path in files if path.suffix in (".csv", ".tsv", ".json", ".xlsx")]
    for _ in range(chance.randint(1, 3)):
        path = chance.choice(tables if tables and chance.random() < 0.75 else files)
        if not path.is_file():
            continue
        content = path.read_bytes()
        if chance.random() < 0.8:
            path.write_bytes(damaged(content, chance))
        else:
            path.unlink()
            if chance.random() < 0.5:
                path.mkdir()


@pytest.mark.parametrize("layout", MAKERS)
def test_A14_a_damaged_folder_is_told_or_read_and_never_breaks_the_command(layout, tmp_path, capsys):
    whole = MAKERS[layout](tmp_path / "whole")
    for seed in range(5):
        folder, out = tmp_path / f"damaged{seed}", tmp_path / f"m{seed}.csv"
        shutil.copytree(whole, folder)
        harm(folder, random.Random(seed))
        code = main(["data", "adapt", layout, str(folder), "-o", str(out)])
        told = capsys.readouterr()
        assert code in (0, 2), (seed, told.err)
        assert out.exists() == (code == 0)
        if code == 0:
            assert not inspect_manifest(out)[1]
        else:
            assert told.err.startswith("error: ")
