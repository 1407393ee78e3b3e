"""Plugin files: small, whole, strict; nothing broken or foreign gets in."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.func import functional_call

from anymc3d.errors import PluginError
from anymc3d.models.backbones import card as backbone_card
from anymc3d.models.classifier import VolumeClassifier
from anymc3d.models.store import find_backbone
from anymc3d.models.vit import empty_vit, random_vit
from anymc3d.plugins import load_plugin, save_plugin
from anymc3d.plugins.file import HEADER_KEY
from anymc3d.plugins.peft import export_peft, import_peft
from anymc3d.settings.plain import to_plain


@pytest.fixture
def plugin(journey):
    return load_plugin(journey.plugin)


def rewritten(plugin, path, *, card=None, tensors=None, header=None):
    """Write a plugin file by hand, so that it may be wrong in one respect."""
    tensors = tensors or {name: tensor.half() for name, tensor in plugin.tensors.items()}
    text = json.dumps(card or to_plain(plugin.card))
    save_file(tensors, str(path), metadata=header or {HEADER_KEY: text})
    return path


def test_the_header_says_all_that_is_needed(journey, plugin):
    with safe_open(str(journey.plugin), framework="pt") as file:
        raw = json.loads(file.metadata()[HEADER_KEY])
    assert raw["format_version"] == 1
    assert raw["kind"] == "plugin"
    assert set(raw["preprocessing"]) == {"image"}
    assert raw["backbone"]["fingerprint"].startswith("sha256:")
    assert raw["backbone"]["positions"] == "official"
    assert raw["split"]["train_hash"]
    assert any(row["metric"] == "auroc" for row in raw["metrics"])
    assert "Research use only" in raw["intended_use"]


def test_tensor_names_are_the_published_ones(plugin):
    assert {"task_query", "head.weight", "head.bias", "lora.image.patch_embed.proj.A"} <= set(plugin.tensors)
    assert all(name.startswith(("lora.image.", "task_query", "head.")) for name in plugin.tensors)


def test_vit_large_in_half_precision_is_under_3_mb(plugin, tmp_path):
    backbone = empty_vit(backbone_card("dinov3-large").config)
    tensors = VolumeClassifier(backbone, views=["image"], num_logits=2).tensors()
    save_plugin(tmp_path / "large.safetensors", plugin.card, tensors)
    assert (tmp_path / "large.safetensors").stat().st_size <= 3_000_000


def test_equal_plugins_are_equal_files(plugin, tmp_path):
    paths = [tmp_path / f"{i}.safetensors" for i in range(5)]
    for path in paths:
        save_plugin(path, plugin.card, plugin.tensors)
    assert len({path.read_bytes() for path in paths}) == 1
    assert load_plugin(paths[0]).hash == plugin.hash


def test_F5_another_backbone_is_refused_with_both_fingerprints(plugin):
    other = random_vit(backbone_card("tiny-random").config, seed=1)
    with pytest.raises(PluginError, match=plugin.card.backbone.fingerprint):
        plugin.build(other, "sha256:other")


def test_F6_one_flipped_bit_is_refused(journey, tmp_path):
    content = bytearray(journey.plugin.read_bytes())
    content[-5] ^= 1
    (tmp_path / "flipped.safetensors").write_bytes(content)
    with pytest.raises(PluginError, match="damaged or was changed"):
        load_plugin(tmp_path / "flipped.safetensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 2}, "reads plugins of format 1, got 2"),
        ({"kind": "network"}, "expected kind 'plugin' or 'ensemble' or 'baseline' or 'plain', got 'network'"),
        ({"kind": "baseline"}, "a plugin has one, a baseline or plain plugin none, got tiny-random in a baseline"),
        ({"backbone": None}, "a plugin has one, a baseline or plain plugin none, got none in a plugin"),
        ({"auto_map": {"x": "y.py"}}, "auto_map: unknown key"),
        ({"fusion": 3}, "fusion: expected text"),
        ({"modality": "XR"}, "modality: expected one of CT, MR, PT, other"),
        ({"preprocessing": {"image": {"size": [1]}}}, "preprocessing.image.size"),
    ],
)
def test_F2_F4_a_header_that_does_not_fit_is_refused(plugin, tmp_path, change, message):
    path = rewritten(plugin, tmp_path / "odd.safetensors", card=to_plain(plugin.card) | change)
    with pytest.raises(PluginError, match=message):
        load_plugin(path)


def test_F4_missing_and_foreign_tensors_are_refused(plugin, journey, tmp_path):
    backbone = find_backbone("tiny-random")
    fewer = {name: tensor for name, tensor in plugin.tensors.items() if name != "task_query"}
    save_plugin(tmp_path / "fewer.safetensors", plugin.card, fewer)
    with pytest.raises(PluginError, match="missing task_query"):
        load_plugin(tmp_path / "fewer.safetensors").build(backbone.module, backbone.fingerprint)
    more = dict(plugin.tensors) | {"blocks.0.attn.qkv.weight": torch.zeros(2)}
    save_plugin(tmp_path / "more.safetensors", plugin.card, more)
    with pytest.raises(PluginError, match=r"unexpected blocks.0.attn.qkv.weight"):
        load_plugin(tmp_path / "more.safetensors").build(backbone.module, backbone.fingerprint)


def test_F4_values_that_are_not_finite_are_refused_when_written_and_when_read(plugin, tmp_path):
    broken = dict(plugin.tensors) | {"head.bias": torch.tensor([0.0, float("nan")])}
    with pytest.raises(PluginError, match=r"head.bias"):
        save_plugin(tmp_path / "nan.safetensors", plugin.card, broken)
    assert not (tmp_path / "nan.safetensors").exists()
    with pytest.raises(PluginError, match=r"head.bias"):
        save_plugin(tmp_path / "big.safetensors", plugin.card, broken | {"head.bias": torch.tensor([0.0, 1e30])})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read"),
        (b"PK\x03\x04pickle", "cannot be read"),
        (b"\xff" * 8 + b"{}", "cannot be read"),
        (None, "found nothing"),
    ],
)
def test_F3_a_broken_container_is_one_clear_line(tmp_path, content, message):
    path = tmp_path / "x.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(PluginError, match=message) as caught:
        load_plugin(path)
    assert "\n" not in str(caught.value)


def test_a_plain_safetensors_file_is_no_plugin(tmp_path):
    save_file({"a": torch.zeros(1)}, str(tmp_path / "plain.safetensors"))
    with pytest.raises(PluginError, match="plain safetensors"):
        load_plugin(tmp_path / "plain.safetensors")


def test_peft_folder_comes_back_bit_for_bit(plugin, journey, tmp_path):
    (folder,) = export_peft(plugin, tmp_path / "peft")
    assert folder == tmp_path / "peft" / "image"
    card, tensors = import_peft(tmp_path / "peft")
    save_plugin(tmp_path / "again.safetensors", card, tensors)
    assert (tmp_path / "again.safetensors").read_bytes() == journey.plugin.read_bytes()


def test_peft_computes_the_same_from_the_exported_folder_and_saves_the_same_bits(plugin, tmp_path):
    from peft import LoraConfig, inject_adapter_in_model  # which takes seconds to import

    (folder,) = export_peft(plugin, tmp_path / "peft")
    backbone = find_backbone("tiny-random").module
    images = torch.rand(2, 3, 28, 28)
    classifier = plugin.build(backbone, plugin.card.backbone.fingerprint)
    ours = functional_call(backbone, classifier.lora["image"].weights(backbone), (images,)).tokens
    config = LoraConfig.from_pretrained(str(folder))
    wrapped = inject_adapter_in_model(config, random_vit(backbone_card("tiny-random").config))
    state = {
        name.removeprefix("base_model.model.")
        .replace("lora_A", "lora_A.default")
        .replace("lora_B", "lora_B.default"): t
        for name, t in load_file(str(folder / "adapter_model.safetensors")).items()
    }
    assert not wrapped.load_state_dict({n: t.float() for n, t in state.items()}, strict=False).unexpected_keys
    torch.testing.assert_close(wrapped(images).tokens, ours, atol=1e-5, rtol=0)


def test_a_folder_that_peft_saved_is_read_to_the_same_bits(plugin, journey, tmp_path, monkeypatch):
    from peft import PeftModel  # which takes seconds to import

    (folder,) = export_peft(plugin, tmp_path / "peft")
    # PEFT looks for the base model's own configuration when it saves; an official DINO network has none.
    monkeypatch.setattr("peft.utils.save_and_load.check_file_exists_on_hf_hub", lambda *_: False)
    model = PeftModel.from_pretrained(random_vit(backbone_card("tiny-random").config), str(folder))
    model.save_pretrained(str(folder))
    card, tensors = import_peft(tmp_path / "peft")
    save_plugin(tmp_path / "again.safetensors", card, tensors)
    assert (tmp_path / "again.safetensors").read_bytes() == journey.plugin.read_bytes()


def test_export_refuses_a_folder_in_use_and_a_plugin_without_lora(plugin, tmp_path):
    (tmp_path / "x").write_text("mine")
    with pytest.raises(PluginError, match="new or empty folder"):
        export_peft(plugin, tmp_path)
    bare = replace(plugin, tensors={n: t for n, t in plugin.tensors.items() if not n.startswith("lora.")})
    with pytest.raises(PluginError, match="no LoRA weights"):
        export_peft(bare, tmp_path / "new")
