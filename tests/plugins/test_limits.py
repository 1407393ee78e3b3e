"""F10: what a plugin's header may ask for is bounded, and compared with what the file holds before memory is taken."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file

from anymc3d.cli.main import main
from anymc3d.cost.memory import forget_peak, peak_memory
from anymc3d.errors import BackboneError, PluginError
from anymc3d.models.baseline import BaselineClassifier
from anymc3d.models.meta_device import without_memory
from anymc3d.models.store import find_backbone
from anymc3d.models.zoo.table import ZOO
from anymc3d.plugins import load_plugin, save_plugin
from anymc3d.plugins.card import PluginCard
from anymc3d.plugins.card_text import read_card
from anymc3d.plugins.file import HEADER_KEY
from anymc3d.settings.plain import from_plain, to_plain
from strangers import forged, read_raw

CPU = torch.device("cpu")
MASKS = {"decoder": "nnunet", "classes": [1], "weight": 1.0, "queries": None, "lr": None, "keep": True}


def put(path, value):
    """A change of the card at a dotted place; a number is a position."""

    def change(card):
        *before, last = [int(part) if part.isdecimal() else part for part in path.split(".")]
        place = card
        for part in before:
            place = place[part]
        place[last] = value

    return change


def as_baseline(views):
    def change(card):
        view = card["preprocessing"]["image"]
        card |= {"kind": "baseline", "backbone": None, "method": {"name": "resnet18-3d", "weights": "random"}}
        card["preprocessing"] = {f"v{i}": view for i in range(views)}

    return change


def refused(path, built=False):
    """The one line with which a plugin is refused, at load or on its backbone; it takes little memory."""
    forget_peak(CPU)
    before = peak_memory(CPU)
    with pytest.raises(PluginError) as caught:
        plugin = load_plugin(path)
        backbone = None if plugin.card.holds_network else find_backbone("tiny-random")
        plugin.build(*((None, None) if backbone is None else (backbone.module, backbone.fingerprint)))
    assert peak_memory(CPU) - before < 300e6
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 3000
    return str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (as_baseline(200), "preprocessing: expected at most 16 of them, got 200"),
        (as_baseline(16), "missing network.v0."),
        (put("segmentation", MASKS | {"decoder": "eomt-2d", "queries": 10**8}), "queries: expected 1 to 1024"),
        (put("segmentation", MASKS | {"decoder": "eomt-3d", "queries": 1024}), "missing decoder.image."),
        (put("segmentation", MASKS | {"classes": [*range(1, 513)]}), "missing decoder.image."),
        (put("segmentation", MASKS | {"classes": [*range(1, 10**4)]}), "classes: expected at most 512 of them"),
        (put("labels", {"columns": ["a"], "kind": "multiclass", "classes": [*map(str, range(2000))]}), "at most 1000"),
        (put("preprocessing.image.size", [28, 28, 10**6]), "size[2]: expected 1 to 4096, got 1000000"),
        (put("preprocessing.image.size", [1024, 1024, 4096]), "size: expected at most 536870912 pixels"),
        (put("method.rank", 10**6), "method.rank: expected 1 to 256"),
        (put("method.rank", 256), "has shape (8, 128), expected (256, 128)"),
        (put("backbone.embed_dim", -5), "embed_dim: expected 1 to 16384, got -5"),
        (put("backbone.std", [0.0, 1.0, 1.0]), "backbone.std[0]: expected 0.001 to 10, got 0"),
        (put("members", [{}] * 1000), "members: expected at most 128 of them"),
    ],
)
def test_F10_what_a_header_asks_for_is_refused_before_it_is_made(journey, tmp_path, change, message):
    assert message in refused(forged(journey.plugin, tmp_path / "x.safetensors", change))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (lambda t: t.replace('"n": 6', '"n": Infinity', 1), "Infinity is not a JSON number"),
        (lambda t: t.replace('"num_scans": 10', '"num_scans": NaN', 1), "NaN is not a JSON number"),
        (lambda t: t.replace('"rank": 8', f'"rank": {"9" * 400}'), "a number of 400 digits"),
        (lambda t: t.replace('"alpha": 16.0', '"alpha": 1e999'), "1e999 is too large for a number"),
        (lambda t: t.replace('"alpha": 16.0', '"alpha": true'), "method.alpha: expected a number, got true"),
        (lambda t: t.replace('"rank": 8', '"rank": 8.0'), "method.rank: expected an integer, got 8.0"),
        (lambda t: t.replace('"rank": 8', '"rank": -0'), "method.rank: expected 1 to 256, got 0"),
        (lambda t: t.replace('"rank": 8', '"rank": 8, "rank": 8'), "a key appears twice"),
        (lambda t: t.replace('"training": {', '"training": {"d": ' + "[" * 900 + "]" * 900 + ",", 1), "levels deep"),
        (lambda t: t.replace('"training": {', '"training": {"d": ' + "[" * 6 + "]" * 6 + ",", 1), "at most 4 levels"),
        (lambda t: "[" * 100_000 + "]" * 100_000, "expected JSON"),
        (lambda t: t.replace('"unspecified"', '"\\ud800"'), "half a character"),
        (
            lambda t: t.replace('"threshold": ', '"threshold": "0.5", "x": ', 1),
            "threshold: expected a number, got text",
        ),
        (lambda t: t.replace('"group": "all", ', "", 1), "metrics[0].group: missing"),
        (lambda t: t.replace('"train": {"cases": 10, ', '"train": {', 1), "split.train.cases: missing"),
        (lambda t: t.replace('"low": ', '"low": 1e9, "x": ', 1), "intensities.image.minimum.x: unknown key"),
        (lambda t: t.replace("{", "{" + "".join(f'"k{i}": 0,' for i in range(5000)), 1), "5000 unknown keys"),
        (lambda t: t.replace("{", '{"' + "k" * 10**6 + '": 0,', 1), "unknown key"),
    ],
)
def test_F4_every_part_of_the_card_has_a_schema(journey, tmp_path, text, message):
    assert message in refused(forged(journey.plugin, tmp_path / "x.safetensors", text=text))


def test_F4_the_record_of_the_backbone_must_be_the_backbones_own(journey, tmp_path, capsys):
    for place, value in (("mean", [0.5, 0.5, 0.5]), ("std", [0.2, 0.2, 0.2]), ("patch_size", 16), ("embed_dim", 384)):
        path = forged(journey.plugin, tmp_path / f"{place}.safetensors", put(f"backbone.{place}", value))
        assert main(["predict", "-p", str(path), "-i", str(journey.scans[0]), "-o", str(tmp_path / place)]) == 2
        shown = capsys.readouterr().err
        assert f"its record of backbone 'tiny-random' says {place}" in shown and shown.count("\n") == 1
        assert not (tmp_path / place).exists()


@pytest.mark.parametrize(
    ("view", "message"),
    [
        ({"field_of_view": [1e9, 1e9, 1e9]}, "would pad a scan of 24 x 28 x 8 voxels to 1000000000 x"),
        ({"field_of_view": [9000.0, 1.0, 1.0]}, "would pad a scan"),
        ({"size": [1024, 1024, 512]}, "would enlarge 24 x 28 x 8 voxels to 1024 x 1024 x 512 pixels"),
        ({"roi": {"source": "point", "size_mm": [1e9, 1e9, 1e9]}}, "would pad a scan"),
    ],
)
def test_F10_the_work_of_a_case_is_estimated_before_it_starts(journey, tmp_path, view, message):
    path = forged(journey.plugin, tmp_path / "x.safetensors", lambda card: card["preprocessing"]["image"].update(view))
    words = ["predict", "-p", str(path), "-i", str(journey.scans[0]), "-o", str(tmp_path / "o"), "--quiet"]
    forget_peak(CPU)
    before = peak_memory(CPU)
    assert main([*words, "--center", "5", "5", "5"]) == 4
    assert message in (tmp_path / "o" / "predictions.csv").read_text()
    assert peak_memory(CPU) - before < 300e6


def test_F3_containers_with_too_much_in_them(journey, tmp_path):
    card, tensors = read_raw(journey.plugin)
    header = {HEADER_KEY: json.dumps(card)}
    many = tensors | {f"t{i}": torch.zeros(1) for i in range(40_001)}
    save_file(many, tmp_path / "many.safetensors", metadata=header)
    assert "at most 40000 tensors" in refused(tmp_path / "many.safetensors")
    save_file(tensors, tmp_path / "more.safetensors", metadata=header | {"other\x1b": "x" * 1000})
    assert "'other\\x1b'" in refused(tmp_path / "more.safetensors")
    save_file(tensors, tmp_path / "large.safetensors", metadata=header | {"other": "x" * 40_000_000})
    assert "a header of at most" in refused(tmp_path / "large.safetensors")
    for kind in (torch.float8_e4m3fn, torch.int8, torch.bool, torch.complex64):
        save_file({"head.bias": torch.zeros(2).to(kind)}, tmp_path / "kind.safetensors", metadata=header)
        assert "expected floating-point tensors" in refused(tmp_path / "kind.safetensors")
    assert "File name too long" in refused(tmp_path / ("x" * 500))


def test_an_ensemble_in_an_ensemble_thirty_deep_is_one_line(journey, tmp_path):
    def change(card):
        for _ in range(30):
            card = card | {"kind": "ensemble", "members": [{"card": card, "hash": "0" * 64}]}
        return card

    assert "levels deep" in refused(forged(journey.plugin, tmp_path / "x.safetensors", change))


@pytest.mark.parametrize("name", sorted(ZOO))
def test_every_network_has_names_and_shapes_without_memory(name):
    entry = ZOO[name]
    with without_memory():
        empty = BaselineClassifier(entry, channels={"a": entry.channels[0], "b": entry.channels[0]}, num_logits=3)
    assert empty.tensors() and all(tensor.is_meta for key, tensor in empty.tensors().items() if "lora" not in key)


def test_F4_a_card_is_checked_when_it_is_written_as_when_it_is_read(journey, tmp_path):
    from dataclasses import replace

    plugin = load_plugin(journey.plugin)
    for change in (
        {"name": "x" * 1000},
        {"training": {"lr": float("nan")}},
        {"training": {"deep": [[[[[1]]]]]}},
        {"metrics": ({"metric": "auroc"},)},
        {"split": {"unit": "site"}},
        {"licence": "\ud800"},
    ):
        with pytest.raises(PluginError, match="cannot be written"):
            save_plugin(tmp_path / "x.safetensors", replace(plugin.card, **change), plugin.tensors)
    assert not (tmp_path / "x.safetensors").exists()


def test_no_part_of_a_card_is_without_a_schema():
    """Every key of every class that a card holds has a type, and each leaf is text, a number, true or false, or a
    fact: nothing is ``Any``."""
    from typing import Any, get_args, get_type_hints

    from anymc3d.settings.limits import As

    seen, waiting = set(), [PluginCard]
    while waiting:
        kind = waiting.pop()
        assert kind is not Any and kind is not object
        schema = next((one.kind for one in get_args(kind) if isinstance(one, As)), None)
        if schema is not None:
            waiting.append(schema)
        elif hasattr(kind, "__dataclass_fields__") and kind not in seen:
            seen.add(kind)
            waiting += get_type_hints(kind, include_extras=True).values()
        else:
            waiting += [part for part in get_args(kind) if not isinstance(part, str | int) and part is not Ellipsis]
    assert len(seen) > 12


def test_minus_zero_is_zero_so_that_equal_cards_are_equal_text(journey):
    card, _ = read_raw(journey.plugin)
    card["operating_points"][0]["threshold"] = -0.0
    problems = []
    again = to_plain(from_plain(PluginCard, card, problems))
    assert not problems and str(again["operating_points"][0]["threshold"]) == "0.0"
    assert read_card(json.dumps(card), "x").thresholds == (0.0,)


def test_a_backbone_that_is_not_there_is_no_hint_to_a_place(journey, tmp_path):
    def change(card):
        card["backbone"] |= {"name": "my; rm -rf", "fingerprint": "sha256:" + "1" * 64}

    path = forged(journey.plugin, tmp_path / "x.safetensors", change)
    with pytest.raises(BackboneError, match="is not on this machine"):
        from anymc3d.predict.predictor import load

        load(path)
