"""Training on trunk tokens: computed once, and the same numbers from wherever they come."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from anymc3d.data.array_store import ArrayStore
from anymc3d.data.augmentation import augment
from anymc3d.errors import TaskFileError, UsageError
from anymc3d.models.classifier import Encoding, VolumeClassifier
from anymc3d.models.store import find_backbone
from anymc3d.models.vit import Block
from anymc3d.settings.task_file import read_task
from anymc3d.settings.views import ViewSettings
from anymc3d.train.batch import BatchLoader
from anymc3d.train.draws import Visit, generator, visits
from anymc3d.train.fit import fit
from anymc3d.train.task_checks import check_task
from anymc3d.train.trunk_tokens import TrunkPass

VIEWS = {"a": ViewSettings(size=(28, 28, 4)), "b": ViewSettings(size=(28, 28, 3), input="neighbours")}
CPU = torch.device("cpu")
FLIPS = ("method.blocks=1", "augmentation=flips")


class Source:
    """Six cases of random slices; case 2 lacks view b."""

    def load(self, index):
        rng = np.random.default_rng(index)
        sizes = {"a": 4, "b": 3}
        loaded = {name: rng.random((number, 1, 28, 28)).astype(np.float16) for name, number in sizes.items()}
        return loaded | {"b": None} if index == 2 else loaded


@pytest.fixture(scope="module")
def backbone():
    return find_backbone("tiny-random")


@pytest.fixture
def trunk(backbone, tmp_path):
    classifier = VolumeClassifier(backbone.module, views=list(VIEWS), num_logits=2, neighbours=["b"], blocks=1)
    store = ArrayStore(tmp_path / "tokens", limit_bytes=10**7, what="trunk tokens", setting="train.token_cache_gb")
    options = {"augmentation": "flips", "copies": 3, "seed": 0, "views": VIEWS}
    return TrunkPass(classifier=classifier, backbone=backbone, encoding=Encoding(chunk_size=3), store=store, **options)


def loader(trunk, **options):
    return BatchLoader(Source(), VIEWS, device=CPU, trunk=trunk, **options)


def entries(trunk):
    return sorted(path.name for path in trunk.store.folder.rglob("*.safetensors"))


def test_a_classifier_answers_from_tokens_what_it_answers_from_slices(trunk, backbone):
    tokens = loader(trunk.plain()).load(visits([1, 2, 4]), 0)
    slices = BatchLoader(Source(), VIEWS, device=CPU).load(visits([1, 2, 4]), 0)
    assert [tokens[name].counts for name in VIEWS] == [(4, 4, 4), (3, 0, 3)]
    assert all(packed.slices.shape[0] == 0 and packed.trunk.tokens.dtype == torch.float16 for packed in tokens.values())
    with torch.no_grad():
        answers = [trunk.classifier(backbone.module, batch, trunk.encoding).logits for batch in (tokens, slices)]
    torch.testing.assert_close(*answers, atol=1e-5, rtol=0)


def test_the_gradients_are_those_of_slices_and_recomputed_ones_too(trunk, backbone):
    tokens = loader(trunk.plain()).load(visits([1, 4]), 0)
    slices = BatchLoader(Source(), VIEWS, device=CPU).load(visits([1, 4]), 0)
    found = []
    for batch, recompute in ((slices, False), (tokens, False), (tokens, True)):
        trunk.classifier.zero_grad()
        encoding = replace(trunk.encoding, recompute=recompute)
        trunk.classifier(backbone.module, batch, encoding).logits[:, 0].sum().backward()
        found.append([parameter.grad.clone() for parameter in trunk.classifier.parameters()])
    for ours in found[1:]:
        for a, b in zip(found[0], ours, strict=True):
            torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def test_each_copy_is_computed_once_and_read_afterwards(trunk, monkeypatch):
    calls = Counter()
    forward = Block.forward
    monkeypatch.setattr(Block, "forward", lambda self, *args: calls.update(["block"]) or forward(self, *args))
    first = [loader(trunk).load([Visit(0)], epoch) for epoch in range(3)]
    assert len(entries(trunk)) == 6, "three copies of two views"
    computed = calls["block"]
    again = [loader(trunk).load([Visit(0)], epoch) for epoch in range(3, 6)]
    assert calls["block"] == computed > 0
    for one, other in zip(first, again, strict=True):
        assert all(torch.equal(one[name].trunk.tokens, other[name].trunk.tokens) for name in VIEWS)
    drawn = {one["a"].trunk.tokens.numpy().tobytes() for one in first}
    assert len(drawn) > 1, "copies differ"


def test_copies_are_those_of_the_slices_whatever_the_run(trunk):
    """Another seed, another place among the cases: the same copies, in another order."""

    class Shifted(Source):
        def load(self, index):
            return super().load(index - 3)

    def tokens(one, case):
        found = [one.load([Visit(case)], epoch)["a"].trunk.tokens.numpy().tobytes() for epoch in range(3)]
        return sorted(found)

    moved = BatchLoader(Shifted(), VIEWS, device=CPU, trunk=replace(trunk, seed=7, store=None, _hashes={}))
    assert tokens(loader(trunk), 0) == tokens(moved, 3)


def test_copies_follow_one_after_the_other_and_all_are_used(trunk):
    one = replace(trunk, copies=5)
    used = [one.copy_of(Visit(3), epoch) for epoch in range(10)]
    assert sorted(used[:5]) == list(range(5)) and used[:5] == used[5:]
    assert one.copy_of(Visit(3, 1), 0) == one.copy_of(Visit(3), 1)
    assert len({one.copy_of(Visit(case), 0) for case in range(40)}) == 5, "cases do not march in step"


def test_a_key_is_all_that_decides_the_tokens(trunk, backbone, monkeypatch):
    def keys(one, name="a"):
        return one.piece(name, Source().load(0)["a"], Visit(0), 0, CPU).key

    last_two = VolumeClassifier(backbone.module, views=list(VIEWS), num_logits=2, neighbours=["b"], blocks=2)
    others = [
        keys(trunk, "b"),
        keys(trunk.in_float32().in_float32()),
        keys(replace(trunk, encoding=replace(trunk.encoding, dtype=torch.bfloat16))),
        keys(replace(trunk, encoding=replace(trunk.encoding, chunk_size=5))),
        keys(replace(trunk, classifier=last_two)),
        keys(replace(trunk, augmentation="paper")),
        keys(replace(trunk, views={"a": ViewSettings(size=(28, 28, 4), normalise="zscore")})),
        keys(replace(trunk, backbone=replace(backbone, card=replace(backbone.card, mean=(0.5, 0.5, 0.5))))),
        keys(replace(trunk, backbone=find_backbone("tiny-random-dinov3"))),
        trunk.piece("a", Source().load(1)["a"], Visit(1), 0, CPU).key,
        trunk.piece("a", Source().load(0)["a"], Visit(0), 1, CPU).key,
    ]
    assert keys(trunk) == others.pop(1)
    assert len({keys(trunk), *others}) == 1 + len(others)
    monkeypatch.setattr("anymc3d.train.trunk_tokens.TOKEN_VERSION", 99)
    assert keys(trunk) not in others


def test_what_a_copy_is_has_not_changed_since_tokens_were_kept():
    """Tokens on disk outlive this version of the program: if this fails, raise TOKEN_VERSION, note the new numbers."""
    slices = torch.linspace(0, 1, 6 * 64).reshape(6, 1, 8, 8)
    every = augment.AugmentationParameters(
        flip=(False, True, False),
        rotation=(20.0, 0.0, 0.0),
        zoom=1.2,
        translation=(0.0, 1.0, 0.5),
        noise=0.05,
        noise_seed=7,
        blur=0.7,
        brightness=1.1,
        contrast=0.9,
        low_resolution=0.7,
        gamma_inverted=1.2,
        gamma=0.8,
    )
    changed = augment.apply(every, slices, value_range=(0.0, 1.0)).flatten()
    assert [float(changed[i]) for i in (0, 100, 200, 300, 383)] == pytest.approx(PIXELS, abs=2e-3)
    drawn = augment.draw(augment.recipe("paper"), generator=generator(0, "augmented copy", 2, "x"), shape=(6, 1, 8, 8))
    numbers = {name: value for name, value in asdict(drawn).items() if isinstance(value, float)}
    assert numbers == pytest.approx(DRAWN, abs=1e-6)
    assert drawn.flip == FLIP


PIXELS = [0.157, 0.3554, 0.5407, 0.6884, 0.7188]
DRAWN = {"zoom": 0.725327, "gamma": 0.750665}
FLIP = (True, True, True)


@pytest.fixture(scope="module")
def cached(journey, tmp_path_factory):
    """A run of four epochs on two copies of each case, and what its home folder kept."""
    folder = tmp_path_factory.mktemp("cached")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ANYMC3D_HOME", str(folder / "home"))
        fit(
            read_task(journey.task, [*FLIPS, "train.copies=2", "train.epochs=4"]),
            folder / "run",
            device="cpu",
            quiet=True,
        )
    return folder


def again(journey, tmp_path, monkeypatch, home, *words):
    monkeypatch.setenv("ANYMC3D_HOME", str(home))
    task = read_task(journey.task, [*FLIPS, "train.copies=2", "train.epochs=4", *words])
    return fit(task, tmp_path / "run", device="cpu", quiet=True)


def test_a_run_keeps_two_copies_of_each_training_case_and_one_of_each_validation_case(cached, journey):
    rows = (cached / "run/manifest.csv").read_text()
    kept = list((cached / "home/tokens").rglob("*.safetensors"))
    assert len(kept) == 2 * rows.count(",train") + rows.count(",val")


def test_without_a_cache_or_with_a_full_one_the_plugin_is_the_same_to_the_byte(
    cached, journey, tmp_path, monkeypatch, caplog
):
    for number, gigabytes in enumerate((0.0, 2e-5)):
        home = tmp_path / f"home{number}"
        words = f"train.token_cache_gb={gigabytes}"
        path = again(journey, tmp_path / str(number), monkeypatch, home, words)
        assert content(path) == content(cached / "run/plugin.safetensors")
        kept = list((home / "tokens").rglob("*.safetensors")) if (home / "tokens").exists() else []
        assert sum(one.stat().st_size for one in kept) <= gigabytes * 1e9
        assert bool(kept) == (gigabytes > 0)
    assert caplog.text.count("is full") == 1


def content(path):
    """Tensors and metrics of a plugin; its record of the settings names the size of the cache."""
    from anymc3d.plugins import load_plugin

    plugin = load_plugin(path)
    return {name: tensor.numpy().tobytes() for name, tensor in plugin.tensors.items()}, plugin.card.metrics


def test_a_second_run_computes_no_trunk_and_a_damaged_entry_is_made_again(
    cached, journey, tmp_path, monkeypatch, caplog
):
    path = sorted((cached / "home/tokens").rglob("*.safetensors"))[3]
    content = bytearray(path.read_bytes())
    content[-9] ^= 4
    path.write_bytes(content)
    made = []
    put = ArrayStore.put
    monkeypatch.setattr(ArrayStore, "put", lambda self, key, arrays: made.append(key) or put(self, key, arrays))
    plugin = again(journey, tmp_path, monkeypatch, cached / "home")
    assert made == [path.stem]
    assert f"trunk tokens {path.name}: damaged" in caplog.text
    assert plugin.read_bytes() == (cached / "run/plugin.safetensors").read_bytes()


def test_no_copies_are_fresh_draws_in_every_epoch_and_nothing_is_kept(journey, tmp_path, monkeypatch):
    home = tmp_path / "home"
    again(journey, tmp_path, monkeypatch, home, "train.copies=0", "train.epochs=1")
    assert not (home / "tokens").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train.copies=4"], "train.copies: goes with method.blocks"),
        (["method.blocks=1", "train.copies=4", "segmentation=nnunet"], "train.copies: a decoder .* needs the slices"),
        (["train.copies=-1"], "train.copies: expected 0 "),
    ],
)
def test_settings_that_do_not_go_together_say_what_to_do(journey, words, message):
    with pytest.raises((UsageError, TaskFileError), match=message):
        check_task(read_task(journey.task, words))


def test_a_decoder_alone_takes_the_slices(journey):
    from anymc3d.train.start import with_recipe

    task = read_task(journey.task, ["method.blocks=1", "segmentation=nnunet"])
    check_task(task)
    assert with_recipe(task).train.copies == 0
    assert with_recipe(read_task(journey.task, ["method.blocks=1"])).train.copies == 8
    assert with_recipe(read_task(journey.task)).train.copies is None
