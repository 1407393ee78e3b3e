"""The DICOM node: what a peer sends is answered as ``predict`` answers it; what is broken is refused or recorded."""

import socket
import struct
import time

import pytest
from senders import arrived, association, known, sent, study

import dicom_makers as dicom
from anymc3d.errors import UsageError
from anymc3d.predict.predictor import load
from anymc3d.serve import incoming
from anymc3d.serve.node_settings import NodeSettings


def test_D4_a_study_is_answered_as_predict_answers_it_and_read_once(service, journey, tmp_path):
    with association(service, []) as opened:
        assert opened.send_c_echo().Status == 0
    series, before = study(11), known(service)
    assert sent(service, series.slices) == [0] * len(series.slices)
    job = arrived(service, before)
    expected = load(journey.plugin, device="cpu").predict(series.write(tmp_path / "series"))
    assert job.state == "done" and job.source == "dicom SENDER"
    assert job.rows[0]["logit.block"] == pytest.approx(expected.logits["block"], abs=1e-6)
    assert any(name.endswith(".sr.dcm") for name in job.record["files"])
    before = known(service)
    assert sent(service, series.slices) == [0] * len(series.slices)
    own = service.results(job.id) / next(name for name in job.record["files"] if name.endswith(".sr.dcm"))
    import pydicom

    assert sent(service, [pydicom.dcmread(own)]) == [0]
    time.sleep(1.0)
    assert known(service) == before and not list(service.incoming.root.iterdir())
    assert "not read twice" in " ".join(line["what"] for line in service.jobs.audit.lines())
    series.slices[3].PixelData = series.slices[2].PixelData
    assert set(sent(service, series.slices)) == {0}
    assert arrived(service, before).state == "done", "other pixels under the same UIDs are another study"


def test_two_studies_in_one_association_are_two_jobs(service):
    one, other, before = study(12), study(13), known(service)
    assert set(sent(service, [*one.slices, *other.slices])) == {0}
    deadline = time.monotonic() + 60
    while len(known(service) - before) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(known(service) - before) == 2


def test_a_refused_file_makes_the_study_an_error_and_the_next_is_answered(service):
    series, before = study(14), known(service)
    nameless = study(15).slices[0]
    del nameless.StudyInstanceUID
    statuses = sent(service, [*series.slices[:4], nameless, *series.slices[4:]])
    assert statuses[4] == 0xC000 and set(statuses[:4] + statuses[5:]) == {0}
    job = arrived(service, before)
    assert job.state == "error" and "not whole" in job.message and "StudyInstanceUID" in job.message
    before = known(service)
    sent(service, series.slices)
    assert arrived(service, before).state == "done"


def test_a_sender_that_breaks_off_leaves_an_error_and_may_come_again(service, monkeypatch):
    monkeypatch.setattr(incoming, "BROKEN_WAIT_S", 0.5)
    series, before = study(16), known(service)
    with association(service, series.slices) as opened:
        assert opened.send_c_store(series.slices[0]).Status == 0
        opened.abort()
    job = arrived(service, before)
    assert job.state == "error" and "broke off" in job.message
    before = known(service)
    sent(service, series.slices)
    assert arrived(service, before).state == "done"


def test_E1_peers_that_are_not_named_are_refused(service):
    for title, called in (("STRANGER", None), ("SENDER", "OTHER")):
        with association(service, [], title, called) as opened:
            assert opened.is_rejected


@pytest.mark.parametrize("kind", ["a unit of 4 GB", "garbage", "nothing"])
def test_E4_what_is_no_dicom_is_cut_off_and_the_node_goes_on(service, kind):
    with socket.create_connection(("127.0.0.1", service.listener.port), timeout=20) as raw:
        content = {"a unit of 4 GB": struct.pack(">BBL", 1, 0, 2**32 - 1), "garbage": b"GET / HTTP/1.1\r\n\r\n" * 9}
        raw.sendall(content.get(kind, b""))
        if kind != "nothing":
            try:
                while raw.recv(4096):
                    pass
            except ConnectionResetError:
                pass
    with association(service, []) as opened:
        assert opened.send_c_echo().Status == 0


def test_a_message_that_never_ends_is_cut_off(service, monkeypatch):
    monkeypatch.setattr(service.listener, "_max_bytes", 100_000)
    big = study(17, stored=dicom.anatomy(1)).slices[0]
    big.PixelData = bytes(3_000_000)
    big.Rows, big.Columns = 1000, 1500
    with association(service, [big]) as opened:
        assert "Status" not in opened.send_c_store(big)
    with association(service, []) as opened:
        assert opened.send_c_echo().Status == 0


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"dicom_port": 104}, "name who may send"),
        ({"dicom_port": 70000, "allow_ae": ("A",)}, "0 to 65535"),
        ({"allow_ae": ("A",)}, "together with --dicom-port"),
        ({"dicom_port": 104, "allow_ae": ("A" * 17,)}, "1 to 16 letters"),
        ({"objects": ("srr",)}, "did you mean 'sr'"),
        ({"quiet_s": float("nan")}, "0.1 or more"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, text):
    with pytest.raises(UsageError, match=text):
        NodeSettings(**settings)
