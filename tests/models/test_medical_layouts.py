"""Published files of MedImageInsight and MedSigLIP, with their true names and shapes, become canonical weights."""

from __future__ import annotations

import json
import os
import re
import warnings
from pathlib import Path
from typing import Any

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from anymc3d.cli.main import main
from anymc3d.errors import BackboneError
from anymc3d.models.architectures import empty_backbone, random_backbone
from anymc3d.models.backbones import TINY_DAVIT, TINY_SIGLIP
from anymc3d.models.davit import DaViTConfig
from anymc3d.models.download import get_backbone
from anymc3d.models.fingerprint import fingerprint
from anymc3d.models.imports import import_backbone
from anymc3d.models.layouts.table import canonical_state, check_settings, describe_unused
from anymc3d.models.siglip import SiglipConfig
from anymc3d.models.store import find_backbone
from anymc3d.models.weight_cards import suggest_name

Tensors = dict[str, Tensor]

OLDER_NAMES = (
    (r"convs\.(\d)", r"conv_embeds.\1"),
    (r"blocks\.(\d)\.(\d+)\.", r"main_blocks.\1.\2."),
    ("spatial_block", "0"),
    ("channel_block", "1"),
    (r"conv1\.fn\.dw", "cpe.0.proj"),
    (r"conv2\.fn\.dw", "cpe.1.proj"),
    (r"(window|channel)_attn\.norm", "norm1"),
    (r"(window|channel)_attn\.fn", "attn"),
    (r"ffn\.norm", "norm2"),
    (r"ffn\.fn\.net", "mlp"),
)
"""From today's names to those that MedImageInsight's code still accepts (docs/methods.md)."""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANYMC3D_HOME", str(tmp_path / "home"))


def tiny(config: Any) -> Tensors:
    return dict(random_backbone(config, seed=3).state_dict())


def medimageinsight(tensors: Tensors) -> Tensors:
    """The names of ``medimageinsigt-v1.0.0.pt``: an image encoder, a text encoder, two projections."""
    beside = {
        "image_projection": torch.zeros(8, 4),
        "lang_projection": torch.zeros(8, 4),
        "logit_scale": torch.ones(()),
        "lang_encoder.token_embedding.weight": torch.zeros(5, 8),
        "lang_encoder.positional_embedding": torch.zeros(7, 8),
        "lang_encoder.resblocks.0.attn.in_proj_weight": torch.zeros(24, 8),
    }
    return {f"image_encoder.{name}": tensor.clone() for name, tensor in tensors.items()} | beside


def older(tensors: Tensors, prefix: str) -> Tensors:
    result = {}
    for name, tensor in tensors.items():
        for pattern, replacement in OLDER_NAMES:
            name = re.sub(pattern, replacement, name)
        result[prefix + name] = tensor.clone()
    return result | {"vision_projection": torch.zeros(8, 4), "text.ln_final.weight": torch.zeros(8)}


DAVIT_WRITERS = {
    "stored": lambda tensors: {name: tensor.clone() for name, tensor in tensors.items()},
    "published": medimageinsight,
    "older blocks": lambda tensors: older(tensors, "image_encoder."),
    "older": lambda tensors: older(tensors, "visual."),
}


def siglip_model(**vision: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import transformers

        text = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 64}
        config = transformers.SiglipConfig(text_config=text | {"vocab_size": 8}, vision_config=vision)
        return transformers.SiglipModel(config)


def tiny_siglip_model() -> Any:
    return siglip_model(
        hidden_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=256,
        patch_size=14,
        image_size=56,
    )


@pytest.mark.parametrize("writer", DAVIT_WRITERS)
def test_every_naming_of_davit_gives_the_same_tensors_and_fingerprint(writer: str) -> None:
    expected = tiny(TINY_DAVIT)
    config, found = canonical_state(DAVIT_WRITERS[writer](expected))
    assert config == TINY_DAVIT
    assert found.keys() == expected.keys()
    assert fingerprint(found) == fingerprint(expected)


def test_the_published_names_of_medimageinsight_are_recognised_at_full_size() -> None:
    """docs/methods.md writes these names and shapes out."""
    empty = empty_backbone(DaViTConfig()).state_dict()
    raw = {f"image_encoder.{name}": value for name, value in empty.items()}
    assert raw["image_encoder.convs.0.proj.weight"].shape == (256, 3, 7, 7)
    assert raw["image_encoder.blocks.2.8.spatial_block.window_attn.fn.qkv.weight"].shape == (3072, 1024)
    assert raw["image_encoder.blocks.3.0.channel_block.channel_attn.fn.proj.weight"].shape == (2048, 2048)
    assert raw["image_encoder.blocks.0.0.spatial_block.conv1.fn.dw.weight"].shape == (256, 1, 3, 3)
    assert raw["image_encoder.blocks.1.0.channel_block.ffn.fn.net.fc1.weight"].shape == (2048, 512)
    assert raw["image_encoder.norms.weight"].shape == (2048,)
    config, found = canonical_state(raw)
    assert config == DaViTConfig() and suggest_name(config, "sha256:any") == "medimageinsight"
    assert len(found) == len(raw)


def test_transformers_own_siglip_is_recognised_at_full_size() -> None:
    """Names and shapes as transformers makes them for So400m/14 at 448, the text encoder beside them."""
    with torch.device("meta"):
        model = siglip_model(
            hidden_size=1152,
            num_hidden_layers=27,
            num_attention_heads=16,
            intermediate_size=4304,
            patch_size=14,
            image_size=448,
        )
    raw = model.state_dict()
    assert raw["vision_model.head.attention.in_proj_weight"].shape == (3456, 1152)
    config, found = canonical_state(raw)
    assert config == SiglipConfig() and suggest_name(config, "sha256:any") == "medsiglip-448"
    assert sum(name.startswith("vision_model.") for name in raw) == len(found)
    assert "text_model (" in describe_unused(raw) and "logit_bias" in describe_unused(raw)


@pytest.mark.parametrize("config", [TINY_DAVIT, TINY_SIGLIP], ids=["davit", "siglip"])
def test_each_missing_unknown_or_misshapen_tensor_is_an_error_that_names_it(config: Any) -> None:
    whole = tiny(config)
    for name in list(whole)[::4]:
        raw = dict(whole)
        del raw[name]
        with pytest.raises(BackboneError):
            canonical_state(raw)
    with pytest.raises(BackboneError, match=r"unknown: head\.weight"):
        canonical_state(whole | {"head.weight": torch.zeros(2, 2)})
    last = next(name for name in reversed(whole) if name.endswith("fc1.bias"))
    with pytest.raises(BackboneError, match=rf"{last} \(3,\) instead of"):
        canonical_state(whole | {last: torch.zeros(3)})


@pytest.mark.parametrize(
    "raw",
    [
        {"convs.0.proj.weight": torch.zeros(())},
        {"image_encoder.convs.0.proj.weight": torch.zeros(32, 3, 7, 7)},
        {"embeddings.patch_embedding.weight": torch.zeros(())},
        {"vision_model.embeddings.patch_embedding.weight": torch.zeros(0, 3, 0, 0)},
        {**{f"convs.{i}.proj.weight": torch.zeros(33, 3, 1, 1) for i in range(4)}, "blocks.0.0.x": torch.zeros(1)},
    ],
)
def test_F3_nonsense_in_these_layouts_is_a_clean_error(raw: Tensors) -> None:
    with pytest.raises(BackboneError):
        canonical_state(raw)


def test_a_vision_tower_without_its_pooling_head_is_refused_with_the_way_out() -> None:
    with pytest.raises(BackboneError, match="take google/medsiglip-448"):
        canonical_state({"vision_tower.vision_model.embeddings.patch_embedding.weight": torch.zeros(2)})


def test_a_settings_file_of_another_siglip_is_refused() -> None:
    right = {"model_type": "siglip", "vision_config": {"hidden_size": 128, "image_size": 56, "num_hidden_layers": 2}}
    check_settings(right, TINY_SIGLIP)
    with pytest.raises(BackboneError, match="image_size is 112 instead of 56"):
        check_settings({"vision_config": right["vision_config"] | {"image_size": 112}}, TINY_SIGLIP)


def test_a_hugging_face_folder_of_siglip_is_imported_and_what_is_left_out_is_told(tmp_path: Path, capsys) -> None:
    tiny_siglip_model().save_pretrained(tmp_path / "folder")
    assert main(["backbone", "import", str(tmp_path / "folder"), "--name", "mine", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert re.search(r"left out: logit_bias, logit_scale, text_model \(\d+ tensors\)", result["origin"])
    loaded = find_backbone("mine")
    assert loaded.fingerprint == result["fingerprint"] and loaded.module.config == TINY_SIGLIP
    assert loaded.card.mean == loaded.card.std == (0.5, 0.5, 0.5)
    assert loaded.card.family == "siglip"
    assert main(["backbone", "verify", "mine"]) == 0
    assert main(["backbone", "show", "mine", "--json"]) == 0


@pytest.mark.parametrize("kind", ["pickle", "safetensors"])
def test_the_pt_file_of_medimageinsight_is_imported_whatever_it_is(tmp_path: Path, kind: str, capsys) -> None:
    """Copies of it are a pickle or a safetensors file under the same name."""
    path = tmp_path / "medimageinsigt-v1.0.0.pt"
    raw = medimageinsight(tiny(TINY_DAVIT))
    torch.save(raw, path) if kind == "pickle" else save_file(raw, path)
    assert main(["backbone", "import", str(path), "--name", "mine"]) == 0
    told = capsys.readouterr().out
    assert "left out: image_projection, lang_encoder (3 tensors), lang_projection, logit_scale" in told
    assert find_backbone("mine").fingerprint == fingerprint(tiny(TINY_DAVIT))
    assert find_backbone("mine").card.family == "davit"


def test_other_weights_are_not_accepted_under_a_published_name(tmp_path: Path) -> None:
    save_file(tiny(TINY_DAVIT), tmp_path / "tiny.safetensors")
    for name in ("medimageinsight", "medsiglip-448"):
        with pytest.raises(BackboneError, match=f"these are not the weights of {name}"):
            import_backbone(tmp_path / "tiny.safetensors", name)


def test_gates_and_licences_are_told_and_nothing_gated_is_fetched(capsys) -> None:
    with pytest.raises(BackboneError, match=r"Health AI Developer Foundations.*huggingface.co/google/medsiglip-448"):
        get_backbone("medsiglip-448")
    assert main(["backbone", "show", "medimageinsight", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert "verify" in shown["licence"] and shown["fingerprint"] is None and shown["blocks"] == [1, 1, 9, 1]
    assert main(["backbone", "list", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["medsiglip-448"]["gated"] and rows["medimageinsight"]["parameters"] == 360_636_416
