"""A peer that sends DICOM, by pynetdicom."""

import time
from contextlib import contextmanager

from pynetdicom import AE

import dicom_makers as dicom
from anymc3d.serve.jobs import DONE, ERROR


@contextmanager
def association(service, datasets, title="SENDER", called=None):
    """An open association to the service's DICOM node, or one that was refused."""
    entity = AE(ae_title=title)
    entity.add_requested_context("1.2.840.10008.1.1")
    for kind in {(str(one.SOPClassUID), str(one.file_meta.TransferSyntaxUID)) for one in datasets}:
        entity.add_requested_context(*kind)
    opened = entity.associate("127.0.0.1", service.listener.port, ae_title=called or service.settings.node.ae_title)
    try:
        yield opened
    finally:
        raw = getattr(opened.dul.socket, "socket", None)
        if opened.is_established:
            opened.release()
        if raw is not None:
            raw.close()  # pynetdicom leaves it open where the other side closed it


def sent(service, datasets):
    """Send all in one association; the statuses."""
    with association(service, datasets) as opened:
        return [opened.send_c_store(one).Status for one in datasets]


def arrived(service, before, seconds=60):
    """The one job that was not among ``before``, when it has ended."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        new = [job for job in service.jobs.latest(500) if job.id not in before]
        if new and new[0].state in (DONE, ERROR):
            assert len(new) == 1, [(job.state, job.message, job.request["scan"]) for job in new]
            return new[0]
        time.sleep(0.05)
    raise AssertionError("no study was taken")


def known(service):
    """The ids of all jobs."""
    return {job.id for job in service.jobs.latest(500)}


def study(number, stored=None):
    """A series of its own study."""
    made = dicom.make_series(sop_class=dicom.MR, series=number, **({} if stored is None else {"stored": stored}))
    for dataset in made.slices:
        dataset.StudyInstanceUID = f"{dicom.ROOT}70.{number}"
        dataset.SOPInstanceUID = f"{dicom.ROOT}71.{number}.{dataset.InstanceNumber}"
    return made
