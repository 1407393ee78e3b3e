"""Hostile and broken input by HTTP: a refusal or an error record, and the next study is answered."""

import gzip
import io
import struct
import zipfile

import nibabel as nib
import numpy as np
from waiting import ended

import dicom_makers as dicom


def nifti(**changed):
    """A scan as bytes, with other cells in its header."""
    image = nib.Nifti1Image(np.ones((8, 8, 4), dtype=np.float32), np.eye(4))
    content = bytearray(image.to_bytes())
    for place, (kind, *values) in changed.values():
        struct.pack_into(kind, content, place, *values)
    return bytes(content)


def archive(**files):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as made:
        for name, text in files.items():
            made.writestr(name.replace("__", "../"), text)
    return content.getvalue()


PIXELS = b"\xe0\x7f\x10\x00OW"


def slices(change, only=3):
    """A study of which one file's bytes are changed."""
    files = {f"{number}.dcm": dicom.content(one) for number, one in enumerate(dicom.make_series().slices)}
    return archive(**files | {f"{only}.dcm": change(files[f"{only}.dcm"])})


def nested(body, depth=3000):
    """Sequences in sequences, where the pixels were."""
    item = b"\x40\x00\x75\x02SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    return body[: body.index(PIXELS)] + item * depth


def hostile():
    """Made where it is sent: bombs take seconds."""
    return {
        "A1 cut": gzip.compress(nifti())[:-30],
        "A1 header alone": nifti()[:352],
        "A2 70 TB": nifti(dim=(40, ("<8h", 3, 32000, 32000, 32000, 1, 1, 1, 1))),
        "A2 negative": nifti(dim=(40, ("<8h", 3, -8, 8, 4, 1, 1, 1, 1))),
        "A3 bomb": gzip.compress(nifti() + bytes(200_000_000), 9),
        "A3 bomb in a zip": archive(**{"a.dcm": bytes(300_000_000)}),
        "A4 nested": slices(nested),
        "A4 lengths": slices(lambda body: body[:300] + b"\x20\x00\x32\x00DS\xff\xff" + body[300:]),
        "A4 cut": slices(lambda body: body[:400]),
        "A6 program": slices(lambda body: b"MZ" + body[2:200]),
        "A9 pickle": b"\x80\x04cos\nsystem\n(S'touch x'\ntR." * 20,
        "A17 slip": archive(__slip="x" * 500),
        "A17 no archive": b"PK\x03\x04" + b"\0" * 500,
    }


def test_A1_A2_A3_A4_A6_A9_A17_by_http(client, service, journey):
    sent_ids, refused = {}, {}
    for name, content in hostile().items():
        answer = client.post("/v1/jobs", files={"file": ("x", content)})
        if answer.status_code == 202:
            sent_ids[name] = answer.json()["id"]
        else:
            refused[name] = answer.status_code
    jobs = {name: ended(client, job_id) for name, job_id in sent_ids.items()}
    assert set(refused.values()) <= {413, 422} and "A9 pickle" in refused
    assert {name: job["status"] for name, job in jobs.items()} == dict.fromkeys(jobs, "error")
    assert all(job["message"] and "/" not in job["message"].replace("n/a", "") for job in jobs.values()), jobs
    good = client.post("/v1/jobs", files={"file": ("x", journey.scans[0].read_bytes())})
    assert ended(client, good.json()["id"])["status"] == "done"
    assert service.supervisor.is_ready
