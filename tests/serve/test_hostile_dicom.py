"""Hostile and broken DICOM by C-STORE: a failure status or an error record, and the next study is answered.

Whatever of the promises A1 to A17 can be a DICOM object is sent: the broken series of the reader's own table, and data
sets that no library would write. What A9, A11 and A17 are about (pickles, task files, archives) is no DICOM object; it
is sent in the place of one.
"""

import gzip
import io
import struct
import sys
import time
import warnings
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from pydicom.encaps import encapsulate
from pydicom.filereader import read_file_meta_info
from pydicom.uid import UID
from pynetdicom.service_class import StorageServiceClass
from pynetdicom.sop_class import uid_to_service_class
from senders import arrived, associated, known, raw_store, sent, study

import dicom_makers as dicom
from anymc3d.data.dicom.codestream import SUPPORTED
from anymc3d.serve.dicom_listener import NOT_UNDERSTOOD, SUCCESS
from anymc3d.serve.jobs import DONE, ERROR

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "data"))
from malformed_dicom import DICOM
from test_dicom_corpus import CORPUS

PLAIN = (dicom.CT, "1.2.840.10008.1.2.1")
ANSWERED = ("whole", "preamble_pe", "preamble_elf", "overlay_30000", "file_appended_to_itself")
REFUSED = (
    "rows_65535",
    "rows_zero",
    "frames_2e31",
    "bits_stored_17",
    "bits_allocated_12",
    "high_bit_20",
    "position_nan",
    "slope_overflow",
    "same_uid_other_pixels",
    "same_uid_other_place",
    "sop_uid_missing",
    "empty_file",
    "not_dicom_but_named_so",
    "truncated_in_the_meta_group",
    "truncated_in_the_header",
    "truncated_in_the_pixels",
    "lying_length",
    "pixels_too_long",
    "unknown_transfer_syntax",
    "nested_3000_levels",
    "sequence_never_closed",
    "dicomdir_only",
    "rle_truncated",
    "enhanced_cut_by_a_frame",
    "frames_0",
)


def written(name):
    """What makes the files of one of the series of the reader's table in a folder."""

    def make(folder):
        series = dicom.make_series()
        CORPUS[name][0](series)
        series.write(folder)

    return make if name in CORPUS else DICOM[name].make


def compressed(syntax, frame, rows=dicom.ROWS):
    """A series whose frames are these bytes."""

    def make(folder):
        series = dicom.make_series()
        for one in series.slices:
            one.file_meta.TransferSyntaxUID, one.Rows = syntax, rows
            one.PixelData = encapsulate([frame])
            one["PixelData"].VR, one["PixelData"].is_undefined_length = "OB", True
        series.write(folder)

    return make


def directory(folder):
    """DICOMDIRs that name a file elsewhere, sent as if they were images."""
    series = dicom.make_series()
    for one in series.slices:
        one.SOPClassUID = "1.2.840.10008.1.3.10"
        dicom.raw("ReferencedFileID", "CS", b"..\\..\\ETC\\PASSWD ")(one)
        del one.PixelData
    series.write(folder)


def archive():
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("../../slip", bytes(50_000_000))
    return content.getvalue()


NOISE = np.random.default_rng(0).bytes(3000)
FRAME = b"\xff\xd8" + NOISE + b"\xff\xd9"
HUGE = struct.pack(">4I", 65535, 65535, 0, 0) * 2
SERIES = {
    "A3 JPEG 2000 of 65535 x 65535": compressed(
        SUPPORTED[0], b"\xff\x4f\xff\x51\0\x29\0\0" + HUGE + b"\0\1\x0f\1\1\xff\xd9", rows=65535
    ),
    **{
        f"A5 noise as {UID(syntax).name}": compressed(syntax, b"\xff\xd8" + NOISE + b"\xff\xd9")
        for syntax in SUPPORTED[::2]
    },
    "A7 directory": directory,
}
BODIES = {
    "A1 nothing": lambda body: b"",
    "A1 noise": lambda body: NOISE,
    "A1 cut": lambda body: body[:60],
    "A4 two bytes": lambda body: b"\0\0",
    "A6 program": lambda body: b"MZ" + body,
    "A9 pickle": lambda body: b"\x80\x04cos\nsystem\n(S'touch canary'\ntR." * 20,
    "A11 task": lambda body: b"!!python/object/apply:os.system ['touch canary']",
    "A3 gzip": lambda body: gzip.compress(bytes(50_000_000)),
    "A17 zip": lambda body: archive(),
    "A8 instance": lambda body: with_uid(body, 0x08, 0x18, b"../../../../tmp/x"),
    "A8 instance with a zero byte": lambda body: with_uid(body, 0x08, 0x18, b"1.2\0/../x"),
    "A8 study": lambda body: with_uid(body, 0x20, 0x0D, b"../../x"),
    "A8 study, absolute": lambda body: with_uid(body, 0x20, 0x0D, b"/etc/cron.d/x"),
    "A8 study, long": lambda body: with_uid(body, 0x20, 0x0D, b"1." * 5000),
}
"""Sent in the place of the fourth slice, made out of it."""


def with_uid(body, group, element, value):
    """A data set of which one UID is another text."""
    tag = struct.pack("<HH", group, element) + b"UI"
    place = body.index(tag)
    (length,) = struct.unpack_from("<H", body, place + 6)
    value += b"\0" * (len(value) % 2)
    return body[: place + 6] + struct.pack("<H", len(value)) + value + body[place + 8 + length :]


@dataclass
class Sent:
    """What one sender sent in one association, and what became of it."""

    uid: bytes
    files: list = field(default_factory=list)
    """SOP class, transfer syntax, SOP instance UID, and the data set's bytes."""
    statuses: list = field(default_factory=list)
    jobs: list = field(default_factory=list)

    def add(self, path):
        """A file as a sender would send it; what is no DICOM is sent as if it were."""
        content, kind, name = path.read_bytes(), PLAIN, f"{dicom.ROOT}1.3"
        with suppress(Exception):
            meta = read_file_meta_info(path)
            kind, name = (meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID), meta.MediaStorageSOPInstanceUID
        if uid_to_service_class(kind[0]) is not StorageServiceClass:
            kind = PLAIN
        if content[128:132] == b"DICM" and len(content) > 144:
            content = content[144 + struct.unpack_from("<I", content, 140)[0] :]
        self.files.append((*map(str, kind), str(name), content.replace(f"{dicom.ROOT}7".encode() + b"\0", self.uid)))

    def send(self, service):
        with associated(service, {file[:2] for file in self.files}) as opened:
            for kind, syntax, name, content in self.files:
                opened.dimse_timeout = 120 if name and content else 0.5  # those are not answered
                self.statuses.append(raw_store(opened, content, kind, name, syntax))


def made(folder, name, make, number):
    """An entry's files as a study of its own."""
    one = Sent(b"2.25.%023d" % (10**22 + number))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns of what is written wrong on purpose
        make(folder)
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        one.add(path)
    if name in BODIES:
        one.files[3] = (*one.files[3][:3], BODIES[name](one.files[3][3]))
    return one


@pytest.fixture(scope="module")
def outcomes(service, tmp_path_factory):
    """Every entry, sent; then what became of all of them."""
    makers = {name: written(name) for name in (*ANSWERED, *REFUSED)} | SERIES
    makers |= {name: dicom.make_series().write for name in BODIES}
    entries = [
        (tmp_path_factory.mktemp("entry"), name, make, number) for number, (name, make) in enumerate(makers.items())
    ]
    found, before = {entry[1]: made(*entry) for entry in entries}, known(service)
    restarts = service.supervisor.restarts
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda one: one.send(service), found.values()))
    while list(service.incoming.root.iterdir()):
        time.sleep(0.1)
    for job_id in known(service) - before:
        job = service.wait(job_id, 100)
        content = b"".join(path.read_bytes() for path in (service.folder(job.id) / "input").iterdir())
        for one in found.values():
            if one.uid in content:
                one.jobs.append(job)
    assert service.supervisor.restarts == restarts, "a file ended the process that read it"
    return found


@pytest.mark.parametrize("name", ANSWERED)
def test_A4_A6_what_is_odd_and_whole_is_answered(outcomes, service, name):
    (job,) = outcomes[name].jobs
    assert set(outcomes[name].statuses) == {SUCCESS} and job.state == DONE
    for path in (service.folder(job.id) / "input").iterdir():
        assert path.read_bytes()[:132] == bytes(128) + b"DICM", "no program is kept in a preamble"


@pytest.mark.parametrize("name", [*REFUSED, *SERIES, *BODIES])
def test_A1_A2_A3_A4_A5_A6_A7_A8_A9_A11_A17_what_is_broken_is_refused_or_recorded(outcomes, name):
    one = outcomes[name]
    assert {job.state for job in one.jobs} <= {ERROR}
    assert all(job.message and "Traceback" not in job.message and "/" not in job.message for job in one.jobs)
    assert one.jobs or set(one.statuses) == {NOT_UNDERSTOOD}
    if name in BODIES:
        (job,) = one.jobs
        assert one.statuses[3] in (None, NOT_UNDERSTOOD) and "refused, so it is not whole" in job.message


def test_the_next_study_is_answered_and_nothing_else_was_written(outcomes, service):
    before = known(service)
    assert set(sent(service, study(62).slices)) == {SUCCESS}
    assert arrived(service, before).state == DONE
    assert not [path for path in service.settings.store.parent.iterdir() if path.name in ("x", "slip", "canary")]
