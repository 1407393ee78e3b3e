"""What a file of embeddings says of the scans: the same after a round trip, and nothing else is taken for it."""

import json

import numpy as np
import pytest

from anymc3d.data.case_scans import PreparedCase
from anymc3d.data.embedding_facts import brightness_of, decode_facts_of, encode_facts_of, facts_of
from anymc3d.data.ood_measures import measure_case
from anymc3d.data.preprocess import PreparedView
from anymc3d.data.scan import scan_facts
from anymc3d.data.volume import Volume


@pytest.fixture(scope="module")
def facts():
    rng = np.random.default_rng(0)
    scan = Volume(rng.normal(size=(9, 8, 7)).astype(np.float32), np.diag([1.5, 1, 2, 1.0]), "MR", ("secret name",))
    view = PreparedView(rng.normal(size=(7, 1, 14, 14)).astype(np.float16), np.eye(4), "axial")
    prepared = PreparedCase({"image": view, "other": None}, {"image": scan_facts(scan)}, {})
    return prepared, facts_of(prepared)


def test_all_numbers_survive_to_the_last_bit_and_warnings_do_not_leave(facts):
    prepared, found = facts
    text = encode_facts_of(found)
    again = decode_facts_of(text)
    (own,) = again.scans.values()
    assert own.intensities == found.scans["image"].intensities and own.modality == "MR"
    assert (own.spacing, own.shape, own.warnings) == ((1.5, 1.0, 2.0), (9, 8, 7), ()) and "secret" not in text
    measures = measure_case(prepared)
    assert again.measures.keys() == measures.keys()
    assert all(np.array_equal(again.measures[name], measures[name]) for name in measures)
    assert np.array_equal(again.brightness["image"], brightness_of(prepared.views["image"].slices))
    assert set(again.brightness) == {"image"}


@pytest.mark.parametrize(
    "change",
    [
        lambda plain: plain.pop("scans"),
        lambda plain: plain["scans"]["image"].update(spacing=[0, 1, 1]),
        lambda plain: plain["scans"]["image"]["intensities"].update(p50=float("nan")),
        lambda plain: plain["measures"].update({"layout.image": [1.0] * 3}),
        lambda plain: plain["measures"].update({"program": [1.0]}),
        lambda plain: plain["brightness"].update(image=["x"]),
    ],
)
def test_anything_else_is_refused(facts, change):
    plain = json.loads(encode_facts_of(facts[1]))
    change(plain)
    with pytest.raises(ValueError):
        decode_facts_of(json.dumps(plain))
