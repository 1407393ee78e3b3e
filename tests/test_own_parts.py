"""Own parts: a row more in a table, by a call or by an installed package; never by what a file says."""

from __future__ import annotations

import gzip
import importlib
import sys
from dataclasses import dataclass, replace

import nibabel
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import anymc3d
from anymc3d import registry
from anymc3d.data.prefetch.queue import workers_for
from anymc3d.data.readers import read_header, read_volume
from anymc3d.data.volume import ScanHeader
from anymc3d.errors import PluginError, ScanError, UsageError
from anymc3d.models.backbone_protocol import BackboneOutput
from anymc3d.models.fusion import FUSIONS, Fused, MeanFusion, build_fusion
from anymc3d.models.heads import LinearHead
from anymc3d.models.imports import import_backbone
from anymc3d.models.layout_rules import Layout, Rule
from anymc3d.models.own_backbones import OwnBackbone
from anymc3d.models.store import find_backbone
from anymc3d.plugins import load_plugin
from anymc3d.plugins.needs import needs_of
from anymc3d.plugins.own_parts import own_parts_record
from anymc3d.settings.config import LabelSettings
from anymc3d.settings.task_file import read_task
from anymc3d.settings.training import MethodSettings, TrainSettings
from anymc3d.testing import BackboneTests, HeadTests, LossTests, NumberLossTests, ReaderTests, tables_as_before
from anymc3d.train.fitted_classifier import fitted_frozen
from anymc3d.train.losses import cross_entropy, huber, make_loss
from anymc3d.train.quick.heads import HeadLearner, stack_tokens
from anymc3d.train.quick.settings import Candidate, QuickSettings, candidates
from anymc3d.train.task_checks import check_task
from untrained_plugins import made


@pytest.fixture(autouse=True)
def as_before():
    """Tables are those of before when a test ends."""
    with tables_as_before():
        yield
    registry._offered.cache_clear()


class ScaledMean(MeanFusion):
    """The mean over slices, times a number."""

    def __init__(self, embed_dim, generator):
        super().__init__(embed_dim, generator)
        self.factor = nn.Parameter(torch.ones(()))

    def forward(self, embeddings, mask):
        found = super().forward(embeddings, mask)
        return found._replace(embedding=found.embedding * self.factor)


class WithoutMask(nn.Module):
    def __init__(self, embed_dim, generator):
        super().__init__()

    def forward(self, embeddings):
        return embeddings.mean(dim=1)


@pytest.mark.parametrize(
    ("register", "part", "said"),
    [
        (anymc3d.register_fusion, nn.ReLU, r"expected a callable \(embed_dim: int, generator"),
        (anymc3d.register_fusion, WithoutMask, r"expected a module called as \(embeddings .* got forward\(self, emb"),
        (anymc3d.register_fusion, "fusion.py", "got str"),
        (anymc3d.register_head, ScaledMean, r"expected a callable \(width: int, num_logits: int, generator"),
        (anymc3d.register_loss, huber, r"expected a function \(truth, settings, positive_weights\) -> \(N,\), got hub"),
        (anymc3d.register_backbone, ScaledMean, "expected an anymc3d.models.own_backbones.OwnBackbone, got ScaledMean"),
    ],
)
def test_a_part_of_the_wrong_shape_is_refused_with_what_was_expected(register, part, said):
    with pytest.raises(UsageError, match=said):
        register("mine", part)


def test_what_a_name_may_be():
    anymc3d.register_fusion("scaled", ScaledMean)
    for name, said in (("query", "'query': the name is taken; choose"), ("scaled", "taken.*start Python again")):
        with pytest.raises(UsageError, match=said):
            anymc3d.register_fusion(name, ScaledMean)
    for name in ("../x", "", "a b", "x" * 101, 3):
        with pytest.raises(UsageError, match=r"a name is at most 100 letters"):
            anymc3d.register_fusion(name, ScaledMean)
    with pytest.raises(UsageError, match="taken by a loss of numbers"):
        anymc3d.register_loss("huber", cross_entropy)
    for ending, said in ((".nii", "taken"), (".my.nii.gz", r"read as \.nii\.gz already"), ("mnc", "a dot before")):
        with pytest.raises(UsageError, match=said):
            anymc3d.register_reader(ending, nibabel.load)


def test_what_is_made_is_checked_too(tmp_path):
    anymc3d.register_fusion("nothing", lambda embed_dim, generator: None)
    anymc3d.register_fusion("narrow", lambda embed_dim, generator: nn.Linear(embed_dim, 1))
    for name in ("nothing", "narrow"):
        with pytest.raises(UsageError, match=f"fusion '{name}': expected .* with out_dim"):
            build_fusion(name, 8, torch.Generator())
    labels = LabelSettings(columns=("a",), kind="binary", classes=("0", "1"))
    anymc3d.register_loss("mean", lambda truth, settings, positive_weights: -truth.log_p.mean())
    loss = make_loss(TrainSettings(loss="mean"), labels, np.array([[0.0], [1.0]]))
    with pytest.raises(UsageError, match=r"train.loss: mean: expected one value per label \(2,\), got \(\)"):
        loss(torch.zeros(2, 2), torch.tensor([[0.0], [1.0]]))


def test_names_that_nobody_registered_say_how_to_add_one(journey):
    for override, said in (
        ("fusion=tophalf", "fusion: unknown name 'tophalf'.*anymc3d.register_fusion.*anymc3d.fusions"),
        ("method.head=cosine", r"method.head: unknown name 'cosine'.*anymc3d.register_head"),
        ("method.head=ordinal", "chosen by the kind of label"),
        ("train.loss=tversky", "train.loss: unknown name 'tversky'.*anymc3d.register_loss"),
    ):
        with pytest.raises(UsageError, match=said):
            check_task(read_task(journey.task, [override]))


PACKAGE = """
import torch
IMPORTED = True
from anymc3d.models.fusion import MeanFusion
class Fusion(MeanFusion):
    max_slices = 7
"""


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """An installed package that offers a fusion, one that cannot be imported, and one whose name is taken."""
    info = tmp_path / "my_fusions-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-fusions\nVersion: 1.2\n")
    lines = ["[anymc3d.fusions]", "mine = my_fusions_module:Fusion", "broken = my_fusions_module:Absent"]
    (info / "entry_points.txt").write_text("\n".join([*lines, "query = my_fusions_module:Fusion", ""]))
    (tmp_path / "my_fusions_module.py").write_text(PACKAGE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_fusions_module", raising=False)
    registry._offered.cache_clear()
    importlib.invalidate_caches()
    return tmp_path


def test_a_package_offers_a_part_and_is_imported_when_it_is_asked_for(installed, journey):
    from anymc3d.models.fusion import most_slices

    assert "mine" in FUSIONS
    assert list(FUSIONS).count("query") == 1
    assert "my_fusions_module" not in sys.modules
    with pytest.raises(UsageError, match=r"taken by the package my-fusions 1\.2"):
        anymc3d.register_fusion("mine", ScaledMean)
    assert isinstance(build_fusion("mine", 8, torch.Generator()), MeanFusion)
    assert type(build_fusion("query", 8, torch.Generator())).__module__ == "anymc3d.models.fusion"
    assert (most_slices("mine"), FUSIONS.provider("mine"), FUSIONS.registered_here) == (7, "my-fusions 1.2", ())
    with pytest.raises(UsageError, match=r"'broken': the package my-fusions 1.2 .* be imported \(AttributeError"):
        build_fusion("broken", 8, torch.Generator())
    with pytest.raises(UsageError, match="at most 7 slices"):
        check_task(read_task(journey.task, ["fusion=mine", "views.image.size=[28,28,8]"]))
    assert own_parts_record("mine", MethodSettings()) == {"own_parts": {"fusion mine": "my-fusions 1.2"}}


def test_a_plugin_of_an_own_fusion_needs_it_and_says_so(journey, tmp_path):
    base = load_plugin(journey.plugin).card
    card = replace(base, training=dict(base.training) | {"own_parts": {"fusion scaled": "my-fusions 1.2"}})
    anymc3d.register_fusion("scaled", ScaledMean)
    path = made(card, tmp_path / "own.safetensors", "own", fusion="scaled")
    scan = journey.scans[0]
    before = anymc3d.load(path, device="cpu").predict(scan)
    assert "fusion.image.factor" in load_plugin(path).tensors
    del FUSIONS["scaled"]
    plugin = load_plugin(path)  # to look at it needs no code
    (need,) = [need for need in needs_of(plugin.card) if need.kind == "part"]
    assert "the fusion 'scaled'" in need.what and "my-fusions 1.2" in need.how
    with pytest.raises(PluginError, match=r"needs the fusion 'scaled'.*register_fusion.*my-fusions 1.2.*no code"):
        anymc3d.load(path, device="cpu")
    anymc3d.register_fusion("scaled", ScaledMean)
    assert anymc3d.load(path, device="cpu").predict(scan).logits == before.logits


def test_a_fusion_that_gives_no_weights_is_named(journey, tmp_path):
    class Bare(MeanFusion):
        def forward(self, embeddings, mask):
            return tuple(super().forward(embeddings, mask))

    anymc3d.register_fusion("bare", Bare)
    path = made(load_plugin(journey.plugin).card, tmp_path / "own.safetensors", "own", fusion="bare")
    with pytest.raises(UsageError, match=r"fusion Bare: expected anymc3d.models.fusion.Fused.* got tuple"):
        anymc3d.load(path, device="cpu").predict(journey.scans[0])


class Longest(nn.Module):
    """The slice with the longest embedding: nothing to learn, and another slice on another scale."""

    def __init__(self, embed_dim, generator):
        super().__init__()
        self.out_dim = embed_dim

    def forward(self, h, mask):
        place = h.norm(dim=2).masked_fill(~mask, -1).argmax(dim=1)
        return Fused(h[torch.arange(len(h)), place], nn.functional.one_hot(place, h.shape[1]).to(h.dtype))


class FixedMean(MeanFusion):
    """The program's own mean under another name."""


def test_a_head_after_an_own_fusion_without_parameters_is_solved_by_quick(journey):
    anymc3d.register_fusion("longest", Longest)
    anymc3d.register_fusion("fixed-mean", FixedMean)
    rng = np.random.default_rng(0)
    cases = [
        {v: None if v == "b" and i % 3 == 0 else rng.normal(size=(3, 8)).astype(np.float32) for v in "ab"}
        for i in range(24)
    ]
    tokens, targets = stack_tokens(cases, ("a", "b")), (np.arange(24) % 2).astype(float)[:, None]
    labels = LabelSettings(columns=("y",), kind="binary", classes=("0", "1"))
    grid = [Candidate(fusion, 0.1) for fusion in ("mean", "fixed-mean", "longest")]
    learner, train, ask = HeadLearner(tokens, targets, labels, grid), np.arange(18), np.arange(24)
    of_mean, of_fixed, of_longest = learner.path(train, ask)
    assert of_fixed == pytest.approx(of_mean, abs=1e-5)
    task = read_task(journey.task, ["fusion=longest", "method=frozen"])
    fitted = fitted_frozen(task, learner.new_classifier(grid[2]), tokens, learner.tensors(train, 2), {})
    assert fitted.logits(ask) == pytest.approx(of_longest, abs=5e-3), "the plugin answers what was compared"
    assert np.abs(of_longest - of_mean).max() > 0.1
    assert {one.fusion for one in candidates(task, QuickSettings())} == {"mean", "longest"}


def test_an_own_fusion_with_parameters_is_refused_by_quick_before_anything_is_computed(journey):
    anymc3d.register_fusion("learns", type("Learns", (Longest,), {"__init__": _with_a_parameter}))
    with pytest.raises(
        UsageError, match=r"fusion: learns cannot be trained by --quick.*own fusions without parameters"
    ):
        candidates(read_task(journey.task, ["fusion=learns"]), QuickSettings())
    with pytest.raises(UsageError, match=r"method\.head: --quick solves the program's own heads alone"):
        candidates(read_task(journey.task, ["method.head=any"]), QuickSettings())
    with pytest.raises(UsageError, match=r"train\.start: frozen solves .* and not fusion: learns"):
        check_task(read_task(journey.task, ["fusion=learns", "train.start=frozen"]))


def _with_a_parameter(self, embed_dim, generator):
    Longest.__init__(self, embed_dim, generator)
    self.weight = nn.Parameter(torch.ones(embed_dim))


class Cosine(LinearHead):
    def forward(self, embeddings):
        return super().forward(nn.functional.normalize(embeddings, dim=1))


def test_an_own_head_gives_the_logits(journey):
    from anymc3d.models.build import build_classifier

    anymc3d.register_head("cosine", Cosine)
    task = read_task(journey.task, ["method.head=cosine"])
    check_task(task)
    views, labels, backbone = task.views, task.labels, find_backbone("tiny-random").module
    made = build_classifier(task.method, views=views, labels=labels, fusion="query", backbone=backbone)
    assert isinstance(made.head, Cosine)
    for override in ("train.start=frozen", "train.standardise=true", "method.name=resnet18-3d"):
        with pytest.raises(UsageError, match=r"method\.head"):
            check_task(read_task(journey.task, ["method.head=cosine", override]))


class TestCosine(HeadTests):
    def make(self, width, num_logits, generator):
        return Cosine(width, num_logits, generator)


class TestCrossEntropy(LossTests):
    def terms(self, truth, settings, positive_weights):
        return cross_entropy(truth, settings, positive_weights)


class TestHuber(NumberLossTests):
    def terms(self, errors):
        return huber(errors)


class TestReaderOfNifti(ReaderTests):
    """One of the program's own."""

    ending, reader = ".nii.gz", None

    def write(self, path, volume):
        nibabel.save(nibabel.Nifti1Image(volume.voxels, volume.affine), path)


class PlainArrays:
    """Voxels of ``.raw3d``: three sizes and three spacings as text, and float32 behind them."""

    @staticmethod
    def read(path):
        head, voxels = path.read_bytes().split(b"\n", 1)
        *shape, x, y, z, i, j, k = map(float, head.split())
        affine = np.diag([x, y, z, 1.0])
        affine[:3, 3] = i, j, k
        return nibabel.Nifti1Image(np.frombuffer(voxels, "<f4").reshape([int(one) for one in shape]), affine)

    @staticmethod
    def header(path):
        image = PlainArrays.read(path)
        return ScanHeader(image.shape, image.affine, "float32")


class TestPlainArrays(ReaderTests):
    ending, reader = ".raw3d", PlainArrays

    def write(self, path, volume):
        facts = [*volume.shape, *volume.spacing, *volume.affine[:3, 3]]
        path.write_bytes(" ".join(map(str, facts)).encode() + b"\n" + volume.voxels.astype("<f4").tobytes())

    def test_what_it_gives_is_checked_as_any_scan_is(self):
        self.write(self.path, replace(self.volume, voxels=self.volume.voxels * np.float32(np.nan)))
        with pytest.raises(ScanError, match=rf"{self.path}: .*finite"):
            read_volume(self.path)


def test_a_reader_gives_a_scan_like_any_other(journey, tmp_path):
    for name in ("scan.x3d", "OTHER.X3D"):
        (tmp_path / name).write_bytes(gzip.decompress(journey.scans[0].read_bytes())[::-1])
    with pytest.raises(ScanError, match="this format is not read"):
        read_volume(tmp_path / "scan.x3d")

    def read(path):
        return nibabel.Nifti1Image.from_bytes(path.read_bytes()[::-1])

    assert workers_for(4, 2) == 2
    anymc3d.register_reader(".x3d", read)
    assert workers_for(4, 2) == 0  # another process does not know it
    for name in ("scan.x3d", "OTHER.X3D"):
        np.testing.assert_array_equal(read_volume(tmp_path / name).voxels, read_volume(journey.scans[0]).voxels)
        assert read_header(tmp_path / name).shape == read_header(journey.scans[0]).shape
    predictor = anymc3d.load(journey.plugin, device="cpu")
    assert predictor.predict(tmp_path / "scan.x3d").logits == predictor.predict(journey.scans[0]).logits
    anymc3d.register_reader(".list", lambda path: [1, 2])
    with pytest.raises(ScanError, match=r"its reader, of \.list: expected one scan, got a list"):
        (tmp_path / "scan.list").touch()
        read_volume(tmp_path / "scan.list")


@dataclass(frozen=True)
class SmallConfig:
    embed_dim: int = 16
    patch_size: int = 4
    num_prefix_tokens: int = 1
    depth: int = 0


class Small(nn.Module):
    """Patches through one linear map; their mean, through another, is the class token."""

    block_paths = closing_paths = ()

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.small_patches = nn.Conv2d(3, config.embed_dim, config.patch_size, config.patch_size)
        self.small_whole = nn.Linear(config.embed_dim, config.embed_dim)

    embed_dim = property(lambda self: self.config.embed_dim)
    patch_size = property(lambda self: self.config.patch_size)
    num_prefix_tokens = property(lambda self: self.config.num_prefix_tokens)

    def forward(self, images, *, attention_blocks=(), class_token_only=False):
        patches = self.small_patches(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.small_whole(patches.mean(dim=1, keepdim=True)), patches], dim=1)
        return BackboneOutput(tokens[:, :1] if class_token_only else tokens, {})

    def matrices(self, dtype):
        return {name: one.to(dtype) for name, one in self.named_parameters() if one.ndim > 1}


def finish(tensors, thirds, layout):
    width, _, patch, _ = tensors["small_patches.weight"].shape
    return SmallConfig(width, patch), tensors


SMALL = OwnBackbone(
    config=SmallConfig,
    network=Small,
    layouts=(
        Layout(
            "small",
            ("small_whole.weight",),
            tuple(Rule(f"small_{part}.{{leaf}}", f"small_{part}.{{leaf}}") for part in ("patches", "whole")),
            finish,
        ),
    ),
    targets=frozenset({"small_patches", "small_whole"}),
    mean=(0.1, 0.2, 0.3),
)


class TestSmall(BackboneTests):
    backbone, config = SMALL, SmallConfig()


def test_weights_of_an_own_architecture_are_imported_and_used(tmp_path):
    weights = {name: one.detach() + 0.5 for name, one in Small(SmallConfig()).named_parameters()}
    save_file(weights, tmp_path / "weights.safetensors")
    with pytest.raises(anymc3d.errors.BackboneError, match=r"anymc3d\.register_backbone.*anymc3d\.backbones"):
        import_backbone(tmp_path / "weights.safetensors", "my-small")
    anymc3d.register_backbone("small", SMALL)
    import_backbone(tmp_path / "weights.safetensors", "my-small")
    loaded = find_backbone("my-small")
    assert (loaded.card.family, loaded.card.mean) == ("small", (0.1, 0.2, 0.3))
    assert torch.equal(loaded.module.small_whole.weight, weights["small_whole.weight"])
    with pytest.raises(UsageError, match=r"configuration .*SmallConfig.* is another backbone's"):
        anymc3d.register_backbone("again", SMALL)
