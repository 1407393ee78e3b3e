"""Several plugins on one case answer what each answers alone; what they have in common is made once."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
import torch

from anymc3d.data.manifest import read_manifest
from anymc3d.models.vit import Block
from anymc3d.plugins import load_plugin, save_plugin
from anymc3d.plugins.ensemble import make_ensemble
from anymc3d.predict.predictor import load
from untrained_plugins import AXIAL, made

KINDS = {
    "whole": {},
    "whole-mean": {"fusion": "mean"},
    "last": {"blocks": 1},
    "last-max": {"blocks": 1, "fusion": "max", "rank": 3},
    "both": {"blocks": 2, "fusion": "transformer"},
    "frozen": {"frozen": True},
    "planes": {"blocks": 1, "views": {"a": AXIAL, "b": replace(AXIAL, plane="coronal", size=(28, 42, 5))}},
    "neighbours": {"blocks": 1, "views": {"image": replace(AXIAL, input="neighbours")}},
    "larger": {"blocks": 2, "views": {"image": replace(AXIAL, size=(42, 42, None))}},
}


@pytest.fixture(scope="module")
def base(journey):
    return load_plugin(journey.plugin).card


@pytest.fixture(scope="module")
def plugins(base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("plugins")
    paths = {name: made(base, folder / f"{name}.safetensors", name, **kind) for name, kind in KINDS.items()}
    for backbone in ("dinov3", "siglip", "vit"):
        for name, kind in (("last", {"blocks": 1}), ("both", {"blocks": 2}), ("whole", {})):
            own = f"{backbone}-{name}"
            paths[own] = made(base, folder / f"{own}.safetensors", own, backbone=f"tiny-random-{backbone}", **kind)
    paths["davit"] = made(base, folder / "davit.safetensors", "davit", backbone="tiny-random-davit")
    members = [load_plugin(paths[name]) for name in ("whole", "last", "both")]
    card, tensors = make_ensemble(members, name="ensemble", sources=["a", "b", "c"])
    paths["ensemble"] = folder / "ensemble.safetensors"
    save_plugin(paths["ensemble"], card, tensors)
    return paths


def assert_same(ours, alone):
    assert (ours.plugin, ours.status, ours.message) == (alone.plugin, alone.status, alone.message)
    assert ours.logits == pytest.approx(alone.logits, abs=1e-5)
    assert ours.view_weights == pytest.approx(alone.view_weights, abs=1e-5)
    for view, weights in alone.slice_weights.items():
        assert ours.slice_weights[view] == pytest.approx(weights, abs=1e-5)


@pytest.mark.parametrize("few", [0, 400])
def test_all_kinds_together_answer_as_each_alone(journey, plugins, monkeypatch, few):
    """Numbers of blocks, fusions, ranks, views, 2.5D, sizes, five kinds of backbone, an ensemble of mixed members."""
    monkeypatch.setattr("anymc3d.models.shared_trunk.FEW_TOKENS", few)
    together = load(list(plugins.values()), device="cpu").predict(journey.scans[1])
    for ours, path in zip(together, plugins.values(), strict=True):
        assert_same(ours, load(path, device="cpu").predict(journey.scans[1]))
    assert len({round(one.logits["block"], 6) for one in together}) == len(plugins), "each is another plugin"


def count_blocks(monkeypatch, predictor):
    """Calls of each block of the predictor's first backbone."""
    monkeypatch.setattr("anymc3d.models.shared_trunk.FEW_TOKENS", 0)
    calls, forward = Counter(), Block.forward
    names = {id(block): index for index, block in enumerate(predictor.residents[0].network.blocks)}
    monkeypatch.setattr(Block, "forward", lambda self, *args: calls.update([names[id(self)]]) or forward(self, *args))
    return calls


def test_one_read_one_preparation_and_one_trunk_for_twelve_plugins(journey, base, tmp_path, monkeypatch):
    paths = [made(base, tmp_path / f"{i}.safetensors", f"p{i}" + "x" * i, blocks=1) for i in range(12)]
    predictor = load(paths, device="cpu")
    calls = count_blocks(monkeypatch, predictor)
    for module, name in (("anymc3d.data.scan", "read_volume"), ("anymc3d.data.scan", "prepare_view")):
        original = getattr(__import__(module, fromlist=[name]), name)
        monkeypatch.setattr(f"{module}.{name}", lambda *a, n=name, f=original, **k: calls.update([n]) or f(*a, **k))
    predictor.predict(journey.scans[0])
    assert calls == {"read_volume": 1, "prepare_view": 1, 0: 1, 1: 12}


def test_slices_with_the_same_bytes_share_a_pass_whatever_settings_made_them(journey, base, tmp_path, monkeypatch):
    """The acquisition plane of these scans is axial, and two windows of percentiles differ."""
    views = [AXIAL, replace(AXIAL, plane="auto"), replace(AXIAL, percentiles=(5.0, 95.0))]
    paths = [
        made(base, tmp_path / f"{i}.safetensors", f"p{i}", blocks=1, views={"image": view})
        for i, view in enumerate(views)
    ]
    predictor = load(paths, device="cpu")
    calls = count_blocks(monkeypatch, predictor)
    together = predictor.predict(journey.scans[0])
    assert calls == {0: 2, 1: 3}
    assert together[0].logits == together[1].logits != together[2].logits


def test_a_plugin_that_fails_harms_no_other(journey, plugins, base, tmp_path):
    """Of a view that the case lacks, and of weights that overflow."""
    lacking = made(base, tmp_path / "l.safetensors", "lacking", views={"image": replace(AXIAL, image="image.other")})
    broken = load_plugin(plugins["last"])
    tensors = {n: torch.full_like(t, 6e4) if "lora" in n else t for n, t in broken.tensors.items()}
    save_plugin(tmp_path / "b.safetensors", replace(broken.card, name="broken"), tensors)
    predictor = load([plugins["last"], lacking, tmp_path / "b.safetensors", plugins["whole"]], device="cpu")
    case = read_manifest(journey.data / "manifest.csv").cases[1]
    found = predictor.predict_case(case)
    assert [one.status for one in found] == ["ok", "error", "error", "ok"]
    assert "image.other" in found[1].message and "not finite" in found[2].message
    for ours, name in ((found[0], "last"), (found[3], "whole")):
        assert_same(ours, load(plugins[name], device="cpu").predict_case(case)[0])


def test_where_memory_ends_all_go_through_in_smaller_chunks(journey, plugins, monkeypatch, caplog):
    """The same answers, and the log says so."""
    from anymc3d.predict import multi_plugin as module

    paths = [plugins["last"], plugins["both"]]
    expected = load(paths, device="cpu").predict(journey.scans[1])
    encode = module.encode_together

    def small(tails, packed, encoding):
        if encoding.chunk_size > 2:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")
        return encode(tails, packed, encoding)

    monkeypatch.setattr(module, "encode_together", small)
    found = load(paths, device="cpu").predict(journey.scans[1])
    assert "tried again with 2" in caplog.text
    for ours, one in zip(found, expected, strict=True):
        assert_same(ours, one)
