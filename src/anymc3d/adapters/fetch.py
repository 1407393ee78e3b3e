"""``anymc3d data get``: one file of a public set, only when asked, and only where its publisher says its hash."""

from __future__ import annotations

from pathlib import Path

from anymc3d.adapters.public_sets import PUBLIC_SETS, PublicFile, PublicSet, md5_of
from anymc3d.errors import DownloadError, LayoutError, did_you_mean
from anymc3d.files import atomic
from anymc3d.files.download import Progress, Request, download


def fetch(name: str, folder: Path, *, progress: Progress | None = None) -> Path:
    """The file of a public set in ``folder``: fetched, checked and only then there; one that is there is checked.

    Raises:
        UsageError: the set is unknown or cannot be fetched for anybody, the machine is offline, or the file is not
            the published one.
    """
    if name not in PUBLIC_SETS:
        raise LayoutError(f"unknown data set {name!r}{did_you_mean(name, PUBLIC_SETS)}")
    entry = PUBLIC_SETS[name]
    if entry.file is None:
        gate = f" (needs {entry.gate})" if entry.gate else " (its publisher states no hash of the whole)"
        raise LayoutError(
            f"{name} cannot be fetched for you{gate}: {entry.get}; then: anymc3d data adapt {entry.layout}"
        )
    return fetch_file(entry, entry.file, folder, progress=progress)


def fetch_file(entry: PublicSet, file: PublicFile, folder: Path, *, progress: Progress | None = None) -> Path:
    """As :func:`fetch`, of a given entry."""
    target = folder / f"{entry.name}.npz"
    if target.exists():
        md5 = md5_of(target)
        if md5 != file.md5:
            raise LayoutError(
                f"{target}: is there and is not the published file (md5 {md5}, published {file.md5}); move it away"
            )
        return target
    with atomic.replacing(target) as temporary:
        try:
            download(file.address, temporary, Request(max_bytes=file.max_bytes, progress=progress))
        except DownloadError as error:
            raise LayoutError(f"{error}; fetch it elsewhere and put it at {target}") from error
        md5 = md5_of(temporary)
        if md5 != file.md5:
            raise LayoutError(f"{file.address}: expected md5 {file.md5}, got {md5}; nothing was kept")
    return target
