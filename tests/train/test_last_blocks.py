"""``method.blocks``: a plugin that adapts the last blocks alone does all that any other does."""

from __future__ import annotations

import json

import pytest
from safetensors.torch import load_file

from anymc3d.cli.main import main
from anymc3d.errors import BackboneError
from anymc3d.files.tables import read_table
from anymc3d.models.fingerprint import trunk_fingerprint
from anymc3d.models.store import find_backbone
from anymc3d.plugins import load_plugin, save_plugin
from anymc3d.plugins.peft import export_peft, import_peft
from anymc3d.predict.predictor import Predictor
from anymc3d.settings.task_file import read_task
from anymc3d.train.fit import fit

BACKBONES = ("tiny-random", "tiny-random-dinov3", "tiny-random-siglip")


@pytest.fixture(scope="module", params=BACKBONES)
def trained(request, journey, tmp_path_factory):
    """One epoch in the last of two blocks."""
    run = tmp_path_factory.mktemp(request.param) / "run"
    words = [f"backbone={request.param}", "method.blocks=1", "train.epochs=1"]
    fit(read_task(journey.task, words), run, device="cpu", quiet=True)
    return request.param, run


def test_the_card_says_how_many_blocks_and_which_trunk(trained, capsys):
    name, run = trained
    plugin = load_plugin(run / "plugin.safetensors")
    trunk = trunk_fingerprint(find_backbone(name).module, 1)
    assert (plugin.card.method.blocks, plugin.card.backbone.trunk) == (1, trunk)
    assert {key.split(".")[-4] for key in plugin.tensors if key.startswith("lora.")} == {"1"}
    assert main(["plugin", "show", str(run / "plugin.safetensors")]) == 0
    assert f"in the last block (trunk {trunk})" in capsys.readouterr().out


def test_the_paper_s_plugin_has_no_trunk(journey):
    card = load_plugin(journey.plugin).card
    assert (card.method.blocks, card.backbone.trunk) == (None, None)


def test_B15_the_raw_file_gives_the_logits_of_validation_in_any_chunk(trained):
    _, run = trained
    images = {row["case"]: (run / row["image"]).resolve() for row in read_table(run / "manifest.csv")}
    rows = read_table(run / "predictions.val.csv")
    plugin = load_plugin(run / "plugin.safetensors")
    assert len(rows) > 3
    for size in (64, 3):
        predictor = Predictor([plugin], device="cpu", chunk_size=size)
        logits = [predictor.predict(images[row["case"]]).logits["block"] for row in rows]
        assert logits == pytest.approx([float(row["logit.block"]) for row in rows], abs=1e-4)


def test_every_heatmap_is_drawn(trained, journey, tmp_path):
    _, run = trained
    words = ["explain", "-p", str(run / "plugin.safetensors"), "-i", str(journey.scans[1]), "-o", str(tmp_path / "out")]
    assert main([*words, "--no-pictures", "--method", "all"]) == 0
    drawn = {path.name.split(".")[2] for path in tmp_path.rglob("*.nii.gz")}
    assert drawn == {"attention", "rollout", "grad-rollout", "grad-rollout-last"}


def test_a_peft_folder_names_the_layers_and_comes_back_bit_for_bit(trained, tmp_path):
    name, run = trained
    (folder,) = export_peft(load_plugin(run / "plugin.safetensors"), tmp_path / "peft")
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["layers_to_transform"] == [1]
    assert config["layers_pattern"] == ("layers" if "siglip" in name else "blocks")
    assert all(".1." in key for key in load_file(str(folder / "adapter_model.safetensors")))
    save_plugin(tmp_path / "again.safetensors", *import_peft(tmp_path / "peft"))
    assert (tmp_path / "again.safetensors").read_bytes() == (run / "plugin.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["backbone=tiny-random-davit", "method.blocks=1"], "a DaViT .* cannot be adapted alone"),
        (["method.blocks=3"], "expected 1 to 2, the blocks of a ViT"),
    ],
)
def test_blocks_that_a_backbone_lacks_are_said_before_a_scan_is_read(journey, tmp_path, monkeypatch, words, message):
    monkeypatch.setattr("anymc3d.train.scans.prepare_all", lambda *_, **__: pytest.fail("scans were read"))
    with pytest.raises(BackboneError, match=message):
        fit(read_task(journey.task, words), tmp_path / "run", device="cpu", quiet=True)
    assert not (tmp_path / "run" / "task.yaml").exists()
