"""Copies to a card, by a stand-in that keeps a record: begun once, waited for by the card alone, bounded, forgotten."""

import gc

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from anymc3d.models.classifier import Encoding, PackedSlices, VolumeClassifier
from anymc3d.models.store import find_backbone
from anymc3d.predict import upload
from anymc3d.predict.upload import Uploads, on_device

CPU = torch.device("cpu")


class Record:
    """A card that does at once what a real one does later, and says what it was asked for."""

    def __init__(self):
        self.asked = []

    def copy(self, array, *, own_stream):
        self.asked.append(("copy", int(array[0]), own_stream))
        return torch.from_numpy(array).clone(), int(array[0])

    def wait(self, tensor, ready):
        assert int(tensor[0]) == ready
        self.asked.append(("wait", ready))


@pytest.fixture
def card():
    return Record()


def arrays(count):
    return [np.full(25, number, np.float32) for number in range(count)]


def test_a_copy_is_begun_beside_and_only_the_card_waits_for_it(card):
    uploads, (one, two) = Uploads(card), arrays(2)
    uploads.begin([one])
    uploads.begin([one])
    assert uploads.num_bytes == one.nbytes
    assert torch.equal(uploads.take(one), torch.from_numpy(one))
    assert torch.equal(uploads.take(two), torch.from_numpy(two)), "what was not sent ahead is copied now"
    assert card.asked == [("copy", 0, True), ("wait", 0), ("copy", 1, False)] and uploads.num_bytes == 0


def test_no_more_than_the_bound_is_sent_ahead_and_what_nobody_wants_is_forgotten(card):
    uploads, many = Uploads(card, most_bytes=250), arrays(5)
    uploads.begin(many)
    assert uploads.num_bytes == 200 and [what[1] for what in card.asked] == [0, 1]
    del many
    gc.collect()
    assert uploads.num_bytes == 0 and not uploads._sent


def test_a_cohort_sends_its_slices_ahead(card, journey, tmp_path, monkeypatch):
    """The whole way, with a card that is the processor: begun by the readers' threads, taken by the network."""
    from anymc3d.data.manifest import read_manifest
    from anymc3d.predict import cohort, multi_plugin, resident
    from anymc3d.predict.predictor import load

    card.copy = lambda array, own_stream: (card.asked.append(("copy", own_stream)), (torch.from_numpy(array), 0))[1]
    card.wait = lambda tensor, ready: card.asked.append(("wait",))
    uploads, cases = Uploads(card), read_manifest(journey.data / "manifest.csv").cases[:3]
    predictor = load(journey.plugin, device="cpu")
    calm = cohort.predict_cohort(predictor, cases, tmp_path / "calm", quiet=True).rows
    monkeypatch.setattr(cohort, "uploads_to", lambda device: uploads)
    for module in (resident, multi_plugin):
        monkeypatch.setattr(module, "on_device", lambda array, device: uploads.take(array))
    assert cohort.predict_cohort(predictor, cases, tmp_path / "out", workers=1, quiet=True).rows == calm
    assert sorted(card.asked) == [("copy", True)] * 3 + [("wait",)] * 3


def test_a_processor_sends_nothing():
    (array,) = arrays(1)
    assert upload.uploads_to(CPU) is None and on_device(array, CPU).data_ptr() == array.ctypes.data


class Waits(TorchDispatchMode):
    """Counts what makes a program wait for a card: numbers and sizes that depend on its values."""

    ENDS = ("item", "_local_scalar_dense", "nonzero", "masked_select", "unique", "equal", "is_nonzero")
    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func._schema.name.partition("::")[2] in self.ENDS
        return func(*args, **(kwargs or {}))


def test_no_batch_of_slices_waits_for_the_card():
    loaded = find_backbone("tiny-random")
    classifier = VolumeClassifier(loaded.module, views=("image",), num_logits=1, rank=2).eval()
    batch = {"image": PackedSlices(torch.rand(6, 1, 28, 28).half(), (6,))}
    with torch.inference_mode(), Waits() as waits:
        torch.ones(1).item()
        before = waits.count
        assert before, "it does count"
        classifier(loaded.module, batch, Encoding(mean=loaded.card.mean, std=loaded.card.std, chunk_size=1))
    assert waits.count == before
