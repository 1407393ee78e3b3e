"""Whether the files of a case are those of an earlier run, without reading them: by what their file system says.

A resumed run over fifty thousand scans would otherwise read every finished one again to hash it. Size, inode and the
times of the last change of content and of the entry (``ctime``, which no user can set) are compared, as git does.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator

from anymc3d.data.case import Case
from anymc3d.data.remote import is_address

SETTLED_SECONDS = 60.0
"""How long before a run began a file must have been changed last: later, it may have been changed after it was read,
within the resolution of its times or of two machines' clocks."""
_ALONE = (".nii.gz", ".nii", ".npy", ".npz", ".mgz", ".mgh", ".mgh.gz", ".zip", ".dcm", ".dicom", ".ima")
"""Scans that are one file; others may have their voxels in a second one, and are always read."""


def file_mark(case: Case, begun: float) -> str | None:
    """SHA-256 over what the file system says of the scans and masks of a case, and over the cells that go with them.

    None where it cannot be said: an address, a scan of several files, one that is not there, or one that was changed
    shortly before the run ``begun`` (seconds since 1970), or since.
    """
    facts: list[object] = [case.spacing, case.center, [case.series(column) for column in sorted(case.images)]]
    try:
        for column, reference in sorted([*case.images.items(), *case.masks.items()]):
            files = _files_of(reference)
            if files is None:
                return None
            for path, status in files:
                if max(status.st_ctime, status.st_mtime) > begun - SETTLED_SECONDS:
                    return None
                times = (status.st_mtime_ns, status.st_ctime_ns)
                facts.append([column, path, status.st_dev, status.st_ino, status.st_size, *times])
    except OSError:
        return None
    return hashlib.sha256(json.dumps(facts).encode("utf-8", "surrogateescape")).hexdigest()


def _files_of(reference: str) -> list[tuple[str, os.stat_result]] | None:
    if is_address(reference):
        return None
    path = reference.rpartition("#")[0] if ".npz#" in reference else reference
    status = os.stat(path)
    if stat.S_ISDIR(status.st_mode):
        return [(below, os.stat(below)) for below in sorted(_below(path))]
    return [(path, status)] if path.lower().endswith(_ALONE) else None


def _below(folder: str) -> Iterator[str]:
    """All files of a folder of slices, and what it is a link to."""
    for place, _, names in os.walk(folder, followlinks=True):
        yield from (os.path.join(place, name) for name in names)
