"""``anymc3d backbone``, called in this process."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from anymc3d.cli.backbone import add_arguments, run
from anymc3d.errors import BackboneError
from anymc3d.models.backbones import BACKBONES, TINY_DINOV2
from anymc3d.models.store import folder_of
from anymc3d.models.vit import random_vit
from anymc3d.models.zoo.published_table import PUBLISHED


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANYMC3D_HOME", str(tmp_path / "home"))


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    save_file(dict(random_vit(TINY_DINOV2, seed=4).state_dict()), tmp_path / "weights.safetensors")
    return tmp_path / "weights.safetensors"


def call(*words: str) -> int:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return run(parser.parse_args(words))


def test_list_shows_every_card_and_what_is_stored(weights: Path, capsys) -> None:
    assert call("import", str(weights), "--name", "mine") == 0
    capsys.readouterr()
    assert call("list", "--json") == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows.keys() == {*BACKBONES, "mine", *PUBLISHED}
    assert rows["mine"]["stored"] is True and rows["dinov2-small"]["stored"] is False
    assert rows["dinov2-small"]["parameters"] == 22_056_192 and rows["dinov3-large"]["gated"] is True
    assert rows["dinov2-small"]["fingerprint"] is None, "never invented"
    assert call("list") == 0
    table = capsys.readouterr().out.splitlines()
    assert table[0].split() == ["name", "parameters", "patch", "licence", "gated", "stored", "fingerprint"]
    assert "22,056,192" in table[1]


def test_import_says_what_the_fingerprint_was_checked_against(weights: Path, capsys) -> None:
    assert call("import", str(weights), "--name", "mine", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["name"] == "mine" and result["fingerprint"].startswith("sha256:")
    assert result["checked"] == "nobody has published a fingerprint; this one is now on record"


def test_show_describes_stored_weights_files_and_absent_ones(weights: Path, capsys) -> None:
    call("import", str(weights), "--name", "mine")
    for target in ("mine", str(weights), "tiny-random"):
        capsys.readouterr()
        assert call("show", target, "--json") == 0
        shown = json.loads(capsys.readouterr().out)
        assert shown["parameters"] == 481_152 and shown["fingerprint"].startswith("sha256:")
    assert call("show", "dinov3-small") == 0
    assert "accept the terms" in capsys.readouterr().out
    with pytest.raises(BackboneError, match="did you mean 'mine'"):
        call("show", "mina")


def test_verify_reports_each_backbone_and_fails_when_one_does(weights: Path, capsys) -> None:
    assert call("verify") == 0
    assert capsys.readouterr().out == "nothing is stored yet\n"
    call("import", str(weights), "--name", "good")
    call("import", str(weights), "--name", "bad")
    assert call("verify") == 0 and call("verify", "good") == 0 and call("verify", str(weights)) == 0
    capsys.readouterr()
    (folder_of("bad") / "record.json").write_text("{}")
    assert call("verify", "--json") == 2
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["good"]["verdict"] == "ok" and rows["bad"]["verdict"] == "failed"
    assert "record.json" in rows["bad"]["message"]


@pytest.mark.parametrize("action", ["get", "verify"])
def test_weights_of_a_network_that_are_not_here_come_with_the_way_to_them(action) -> None:
    with pytest.raises(BackboneError, match=r"fetch resnet_50\.pth from .*anymc3d backbone import FILE --name"):
        call(action, "medicalnet-resnet50")


def test_parsing_and_help_import_no_torch() -> None:
    code = (
        "import argparse, sys\n"
        "from anymc3d.cli.backbone import add_arguments\n"
        "parser = argparse.ArgumentParser(); add_arguments(parser); parser.format_help()\n"
        "parser.parse_args(['list'])\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_file_of_no_known_network_is_told_all_that_are_and_its_structure(tmp_path: Path) -> None:
    save_file({"conv.weight": torch.zeros(4, 3, 3, 3)}, tmp_path / "own.safetensors")
    with pytest.raises(BackboneError) as caught:
        call("import", str(tmp_path / "own.safetensors"))
    said = str(caught.value)
    assert "own.safetensors: not a known layout of backbone weights" in said and "structure layout:" in said
    assert "nor weights of a network to compare with" in said and "(efficientnetv2-s)" in said and "\n" not in said
