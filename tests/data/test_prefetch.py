"""Reading ahead without a process: what goes over the pipe comes out the same, answers come in order, memory has a
bound."""

import io
import os
import threading

import numpy as np
import pytest

from anymc3d.data.case import Case
from anymc3d.data.case_faults import fault_of
from anymc3d.data.prefetch import process, queue, wire
from anymc3d.data.prefetch.needs import Needs
from anymc3d.data.prefetch.process import Answer, LostReaderError, Reader
from anymc3d.data.prefetch.queue import Ahead, workers_for
from anymc3d.data.preprocess import PreparedView
from anymc3d.data.time_limit import TooSlowError
from anymc3d.data.volume import Volume
from anymc3d.errors import AnyMC3DError, DamagedScanError, ExcludedError, OutputError, ScanError
from anymc3d.settings.views import RoiSettings, ViewSettings

CASE = Case(
    id="a",
    patient="p",
    images={"image": "/scans/\udce9.nii.gz"},
    masks={},
    cells={"x": "1"},
    split=None,
    fold="0",
    spacing=(1.0, 0.1, 2.0),
    center=None,
    row=2,
)
VIEW = ViewSettings(
    size=(28, 28, None), roi=RoiSettings(source="totalsegmentator", organs=("liver",)), field_of_view=(10.5, 3.0, 2.0)
)


def through(message):
    pipe = io.BytesIO()
    wire.send(pipe, message)
    pipe.seek(0)
    return wire.receive(pipe)


def test_what_is_sent_comes_out_the_same():
    asked = {"case": CASE, "needs": Needs(views=(VIEW,), masks=True), "timeout_s": None}
    assert through(("read", asked)) == ("read", asked)
    rng = np.random.default_rng(0)
    stored = np.asfortranarray(rng.normal(size=(3, 4, 5)).astype(np.float32))
    slices = rng.normal(size=(2, 1, 4, 4)).astype(np.float16)
    sent = {
        "volume": Volume(stored, np.eye(4), modality="CT", warnings=("one",)),
        "view": PreparedView(slices, np.eye(4) * 0.1, "axial", ("note",)),
        "none": np.zeros((0, 3), np.uint8),
        "number": float("inf"),
    }
    back = through(sent)
    assert list(back) == list(sent) and back["number"] == float("inf")
    assert back["volume"].voxels.flags.f_contiguous and np.array_equal(back["volume"].voxels, stored)
    assert back["volume"].modality == "CT" and back["volume"].warnings == ("one",)
    assert (
        back["view"].slices.tobytes() == slices.tobytes()
        and back["view"].affine.tobytes() == (np.eye(4) * 0.1).tobytes()
    )
    assert back["none"].shape == (0, 3)


@pytest.mark.parametrize(
    "error",
    [
        ScanError("/a/b: damaged", what="damaged"),
        DamagedScanError("/a/b: cut", what="cut"),
        ExcludedError("left out"),
        TooSlowError("no answer"),
        ValueError("box of /some/where/scan.nii"),
        KeyError("x"),
        OSError(5, "Input/output error"),
        PermissionError(13, "Permission denied"),
        MemoryError("9 GiB"),
        Exception(),
    ],
    ids=repr,
)
def test_an_error_says_the_same_on_either_side(error):
    back = through(error)
    assert fault_of(back, CASE) == fault_of(error, CASE)
    assert isinstance(back, ScanError) == isinstance(error, ScanError)
    assert isinstance(back, ExcludedError) == isinstance(error, ExcludedError)
    assert isinstance(back, MemoryError) == isinstance(error, MemoryError)


def test_what_no_reader_says_is_not_built(tmp_path):
    for text in (b"{", b'{"_": "Path", "fields": {}}', b'{"_": "array", "dtype": "O", "shape": [1], "fortran": false}'):
        pipe = io.BytesIO(wire._LENGTHS.pack(len(text), 0) + text)
        with pytest.raises(wire.BrokenMessageError):
            wire.receive(pipe)
    for head in (b"", b"\0" * 5, wire._LENGTHS.pack(10, 0) + b"{", wire._LENGTHS.pack(1 << 60, 0)):
        with pytest.raises(wire.BrokenMessageError):
            wire.receive(io.BytesIO(head))
    assert isinstance(through(OutputError("full")), OutputError)


FEW_CASES = 8


class Stand:
    """A reader without a process: an answer of so many bytes, where ``gates`` holds the job up until it is opened."""

    def __init__(self, sizes, gates=None):
        self.sizes, self.gates = sizes, gates or {}

    def ask(self, name, arguments, *, limit_s, room):
        number = arguments["number"]
        if number in self.gates:
            assert self.gates[number].wait(20)
        room(self.sizes[number])
        return Answer(number, 0.0, self.sizes[number])

    def stop(self):
        pass


def jobs(count):
    return [("read", {"number": number}) for number in range(count)]


def test_answers_come_in_the_order_of_the_jobs_whoever_is_first():
    first = threading.Event()
    readers = [Stand([1] * 12, {0: first}) for _ in range(3)]
    ahead = Ahead(jobs(12), readers, most_bytes=100)
    answers = ahead.answers()
    threading.Timer(0.05, first.set).start()
    assert [answer.value for answer in answers] == list(range(12))
    ahead.stop()


def test_no_more_waits_than_the_bound_and_one_answer():
    """Jobs 1 to 11 are done long before 0: they wait in their processes, not here."""
    sizes, first = [40] * 12, threading.Event()
    ahead = Ahead(jobs(12), [Stand(sizes, {0: first}) for _ in range(4)], most_bytes=100)
    found = ahead.answers()
    threading.Timer(0.05, first.set).start()
    assert [answer.value for answer in found] == list(range(12))
    ahead.stop()
    assert 80 <= ahead.most_held <= 100 + 40
    large = Ahead(jobs(3), [Stand([500] * 3) for _ in range(2)], most_bytes=100)
    assert [answer.value for answer in large.answers()] == [0, 1, 2], "one that is larger than the bound is taken alone"
    large.stop()
    assert large.most_held <= 1000


def test_while_one_case_is_worked_on_the_next_are_read():
    """A device that lets one more scan be read for every case it has done: with three scans of lead the readers are
    three cases ahead whenever it begins one, so it never waits. Were a scan read when it is asked for, it would."""
    lead, total, allowed, read = 3, 20, threading.Semaphore(3), threading.Condition()
    seen = []

    class Allowed(Stand):
        def ask(self, name, arguments, **options):
            assert allowed.acquire(timeout=20)
            answer = super().ask(name, arguments, **options)
            with read:
                seen.append(answer.value)
                read.notify_all()
            return answer

    ahead = Ahead(jobs(total), [Allowed([1] * total) for _ in range(lead)], most_bytes=100)
    for number, _ in enumerate(ahead.answers()):
        with read:  # the device works on this case, and the readers have time for what they are allowed
            assert read.wait_for(lambda number=number: len(seen) >= min(total, number + lead), 20)
        allowed.release()
    ahead.stop()
    assert sorted(seen) == list(range(total))


def test_stopping_in_the_middle_leaves_no_thread():
    before = threading.active_count()
    ahead = Ahead(jobs(50), [Stand([60] * 50) for _ in range(3)], most_bytes=100)
    answers = ahead.answers()
    assert next(answers).value == 0
    ahead.stop()
    assert threading.active_count() == before


def test_a_reader_that_does_not_start_ends_the_run_with_a_line(monkeypatch):
    for program in ("/bin/false", "/no/such/program"):
        monkeypatch.setattr(process.sys, "executable", program)
        with pytest.raises(AnyMC3DError, match=r"does not start.*--workers 0"):
            Reader().ask("read", {}, limit_s=None, room=lambda count: None)


def test_a_process_ends_with_who_began_it():
    """The pipe of one that is killed is closed by the system."""
    reader = Reader()
    child = reader._started()
    child.stdin.close()
    assert child.wait(60) == 0
    reader.stop()


def test_few_cases_start_no_process(monkeypatch):
    monkeypatch.setattr(queue, "FEW_CASES", FEW_CASES)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    assert workers_for(1, None) == workers_for(FEW_CASES - 1, None) == 0
    assert workers_for(10_000, None) == 8 and workers_for(10_000, 20) == 20 and workers_for(2, 20) == 2
    assert workers_for(10_000, 0) == 0
    assert issubclass(LostReaderError, ScanError)
