"""A peer that sends DICOM, by pynetdicom."""

import io
import time
from contextlib import contextmanager

from pynetdicom import AE

import dicom_makers as dicom
from anymc3d.serve.jobs import DONE, ERROR


@contextmanager
def association(service, datasets, title="SENDER", called=None):
    """An open association to the service's DICOM node for these data sets, or one that was refused."""
    kinds = {(str(one.SOPClassUID), str(one.file_meta.TransferSyntaxUID)) for one in datasets}
    with associated(service, kinds, title, called) as opened:
        yield opened


@contextmanager
def associated(service, kinds, title="SENDER", called=None):
    """The same by SOP classes and transfer syntaxes."""
    entity = AE(ae_title=title)
    entity.add_requested_context("1.2.840.10008.1.1")
    for kind in kinds:
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


def raw_store(opened, content, sop_class, sop_uid, syntax=None):
    """C-STORE of a data set's bytes, which no library has to have written; the status, None where none came."""
    from pynetdicom.dimse_primitives import C_STORE

    asked = C_STORE()
    asked.MessageID, asked.Priority = 1, 2
    asked.AffectedSOPClassUID, asked.AffectedSOPInstanceUID = sop_class, sop_uid
    asked.DataSet = io.BytesIO(content)
    fitting = [
        one.context_id
        for one in opened.accepted_contexts
        if one.abstract_syntax == sop_class and syntax in (None, *one.transfer_syntax)
    ]
    if not fitting:
        return None
    opened._reactor_checkpoint.clear()  # as send_c_store does, so that the answer comes here
    opened.dimse.send_msg(asked, fitting[0])
    _, answer = opened.dimse.get_msg(block=True)
    opened._reactor_checkpoint.set()
    return None if answer is None else answer.Status


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
