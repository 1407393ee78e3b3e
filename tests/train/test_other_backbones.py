"""A DaViT, SigLIP, a plain ViT and CLIP are backbones like any other: train, predict, explain, the frozen method."""

from __future__ import annotations

import pytest
import torch

from anymc3d.cli.main import main
from anymc3d.files.tables import read_table
from anymc3d.models.store import find_backbone
from anymc3d.models.tensor_hash import tensors_hash
from anymc3d.plugins import load_plugin
from anymc3d.predict.predictor import Predictor
from anymc3d.settings.task_file import read_task
from anymc3d.train.fit import fit

EXPECTED_STD = {"davit": 0.229, "siglip": 0.5, "vit": 0.229, "clip": 0.26862954}
PATCH = {"davit": 32, "siglip": 14, "vit": 16, "clip": 16}
BACKBONES = tuple(f"tiny-random-{kind}" for kind in PATCH)
SMALL = ("train.epochs=1", "train.recompute=true", "train.chunk_size=8", "train.precision=bf16")


@pytest.fixture(scope="module", params=BACKBONES)
def trained(request, journey, tmp_path_factory):
    """One epoch in bfloat16, activations recomputed."""
    run = tmp_path_factory.mktemp(request.param) / "run"
    before = tensors_hash(find_backbone(request.param).module.state_dict())
    fit(read_task(journey.task, [f"backbone={request.param}", *SMALL]), run, device="cpu", quiet=True)
    assert tensors_hash(find_backbone(request.param).module.state_dict()) == before
    return request.param, run


def test_the_plugin_names_its_backbone_and_what_it_expects(trained):
    name, run = trained
    record = load_plugin(run / "plugin.safetensors").card.backbone
    entry = find_backbone(name)
    assert (record.name, record.fingerprint) == (name, entry.fingerprint)
    assert (record.mean, record.std) == (entry.card.mean, entry.card.std)
    kind = name.removeprefix("tiny-random-")
    assert record.std[0] == EXPECTED_STD[kind]
    assert (record.embed_dim, record.patch_size) == (128, PATCH[kind])


def test_predictions_are_those_of_validation_and_of_any_chunk(trained, journey):
    """E-rows: the same raw file gives the same logit in training-time validation, ``predict`` and the library."""
    _, run = trained
    manifest = {row["case"]: row for row in read_table(run / "manifest.csv")}
    row = read_table(run / "predictions.val.csv")[0]
    scan = (run / manifest[row["case"]]["image"]).resolve()
    plugin = load_plugin(run / "plugin.safetensors")
    predictors = [Predictor([plugin], device="cpu", chunk_size=size) for size in (64, 3)]
    logits = [predictor.predict(scan).logits["block"] for predictor in predictors]
    assert logits == pytest.approx([float(row["logit.block"])] * 2, abs=1e-4)


def test_the_lora_pairs_in_the_file_are_those_of_the_published_layers(trained):
    name, run = trained
    paths = {key.removeprefix("lora.image.")[:-2] for key in load_plugin(run / "plugin.safetensors").tensors}
    expected = {
        "tiny-random-davit": ("convs.3.proj", "blocks.2.1.channel_block.channel_attn.fn.qkv"),
        "tiny-random-siglip": ("embeddings.patch_embedding", "encoder.layers.1.self_attn.out_proj"),
        "tiny-random-vit": ("patch_embed.proj", "blocks.1.attn.qkv"),
        "tiny-random-clip": ("patch_embed.proj", "blocks.1.attn.proj"),
    }[name]
    assert paths.issuperset(expected)


def test_heatmaps_are_those_that_the_backbone_has(trained, journey, tmp_path, capsys):
    """A SigLIP probe looks at patches; a DaViT has nothing that does, and says what it has instead."""
    name, run = trained
    base = ["explain", "-p", str(run / "plugin.safetensors"), "-i", str(journey.scans[1]), "--no-pictures", "-o"]
    assert main([*base, str(tmp_path / "default")]) == 0
    assert main([*base, str(tmp_path / "all"), "--method", "all"]) == 0
    drawn = {path.name.split(".")[2] for path in (tmp_path / "all").rglob("*.nii.gz")}
    default = {path.name.split(".")[2] for path in (tmp_path / "default").rglob("*.nii.gz")}
    attention = {"attention", "rollout", "grad-rollout", "grad-rollout-last"}
    assert (drawn, default) == (({"grad-cam"},) * 2 if "davit" in name else (attention, {"grad-rollout"}))
    capsys.readouterr()
    assert main([*base, str(tmp_path / "other"), "--method", "rollout" if "davit" in name else "grad-cam"]) == 2
    line = capsys.readouterr().err.strip()
    assert "--method" in line and "\n" not in line
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("name", BACKBONES)
def test_the_frozen_method_trains_query_and_head_alone(journey, tmp_path, name):
    task = read_task(journey.task, [f"backbone={name}", "method=frozen", "train.epochs=1"])
    fit(task, tmp_path / "run", device="cpu", quiet=True)
    tensors = load_plugin(tmp_path / "run/plugin.safetensors").tensors
    assert {key: tuple(value.shape) for key, value in tensors.items()} == {
        "task_query": (128,),
        "head.weight": (2, 128),
        "head.bias": (2,),
    }
    assert all(torch.isfinite(value).all() for value in tensors.values())
