"""Scans at an address (``s3://``, ``gs://``, ``https://`` …), brought here by fsspec with bounds, then read as files.

A table from a stranger must not make this machine ask another one for something. So an address is opened only where it
begins with one that the person at the keyboard named (``--remote s3://bucket/``). Credentials come from the
environment, as each store's own library reads them; an address is never logged, and what it says beyond the path (a
signature, a password) never stands in a message.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from anymc3d.errors import AnyMC3DError, CredentialsError, PackageError, RemoteError, ScanError, UsageError
from anymc3d.files import atomic, home
from anymc3d.files.private import make_private

MOST_BYTES = 8 * 2**30
"""Of one scan. More is refused, by what the store says of its size and again while it comes."""
LIMIT_BYTES = 20 * 10**9
"""Of the folder of scans that were brought here; what was used longest ago goes first."""
RECENT_S = 3600.0
"""What was used so recently stays, for another process may be about to read it."""
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_CHUNK = 2**20
MARKS = (
    *("ETag", "etag", "md5Hash", "Content-MD5", "Digest", "generation"),
    *("Last-Modified", "LastModified", "last_modified", "mtime", "updated", "created"),
)
"""What stores say that changes with the content. Where one says none of it, every command fetches anew."""

_allowed: tuple[str, ...] = ()
"""Beginnings that the person at the keyboard named; the same for all threads of a command."""
_known: dict[str, Path] = {}
"""Address -> file, of this process: the hash and the voxels of a scan come from one download."""


def is_address(reference: str) -> bool:
    """Whether a reference is an address and not a path; ``C:\\scans`` is none."""
    return _ADDRESS.match(reference) is not None


@contextmanager
def allowing(prefixes: Sequence[str]) -> Iterator[None]:
    """Let addresses that begin with one of ``prefixes`` be opened.

    Raises:
        UsageError: a prefix names no store, or could stand for several.
    """
    for prefix in prefixes:
        check_prefix(prefix)
    global _allowed
    before, _allowed = _allowed, tuple(prefixes)
    try:
        yield
    finally:
        _allowed = before


def allowed() -> tuple[str, ...]:
    """The beginnings that are allowed now."""
    return _allowed


def allow(prefixes: Sequence[str]) -> None:
    """The same as who began this process: for the whole life of a process that reads for another."""
    global _allowed
    _allowed = tuple(prefixes)


def check_prefix(prefix: str) -> None:
    """Refuse a beginning that does not say which store is meant.

    Raises:
        UsageError: with what is expected.
    """
    parts = urlsplit(prefix)
    if not is_address(prefix) or not parts.netloc or not prefix.endswith("/") or ".." in prefix.split("/"):
        raise UsageError(
            f"--remote: expected the beginning of addresses with a store and a / at the end, as s3://bucket/scans/, "
            f"got {without_secrets(prefix)!r}"
        )


def why_not(reference: str) -> str | None:
    """Why an address may not be opened; None when it may."""
    if "::" in reference or ".." in reference.split("/"):
        return "an address with '::' or '..' is not opened; write the plain one"
    if not any(reference.startswith(prefix) for prefix in _allowed):
        parts = urlsplit(reference)
        start = f"{parts.scheme}://{parts.hostname or ''}/"
        return (
            f"an address is opened only when its beginning is named on the command line: --remote {start} "
            "(of predict, explain and embed); for training fetch the scans first: anymc3d data fetch"
        )
    return None


def without_secrets(address: str) -> str:
    """An address without user, password, query and fragment."""
    parts = urlsplit(address)
    host = parts.hostname or ""
    return f"{parts.scheme}://{host}{f':{parts.port}' if parts.port else ''}{parts.path}"


def local(reference: str) -> str:
    """The file of an address, brought here if need be; any other reference as it is.

    Raises:
        ScanError: it may not be opened, is not there, is too large, or the store refuses.
        OutputError: the folder for it cannot be written.
    """
    if not is_address(reference):
        return reference
    refused = why_not(reference)
    if refused:
        raise RemoteError.of(reference, f"{refused}")
    known = _known.get(reference)
    if known is not None and known.exists():
        os.utime(known)
        return str(known)
    try:
        path = _fetched(reference)
    except AnyMC3DError:
        raise
    except ImportError as error:
        what = f"this kind of store needs another package ({error.name}); pip install 'anymc3d[remote]'"
        lacking = RemoteError.of(reference, what)
        lacking.code = PackageError.code
        raise lacking from None
    except Exception as error:  # noqa: BLE001 - every store has exceptions of its own
        raise _refused(reference, error) from None
    _known[reference] = path
    return str(path)


def _fetched(reference: str) -> Path:
    import fsspec

    store, path = fsspec.core.url_to_fs(reference)
    info = store.info(path)
    if info.get("type") == "directory":
        raise RemoteError.of(reference, "a folder; a DICOM study at an address is one .zip file")
    size = info.get("size")
    if size is not None and size > MOST_BYTES:
        raise RemoteError.of(reference, f"{size} bytes, at most {MOST_BYTES} are fetched")
    target = remote_folder() / _key(reference, info) / _name(reference)
    if not target.exists() or not any(info.get(name) for name in MARKS):
        make_private(target.parent)
        with atomic.replacing(target, needed=size) as temporary:
            _copy(_chunks(store, path, reference), temporary, reference, size)
        trim(remote_folder())
    os.utime(target)
    return target


def _refused(reference: str, error: Exception) -> ScanError:
    """In the words of the kind of error alone: its text may hold a token."""
    if _is_of_credentials(error):
        return CredentialsError.of(
            reference,
            "cannot be fetched: the store refuses the credentials in the environment, or the signature of the address; "
            "renew them, then run the same command again",
        )
    why = f": {os.strerror(error.errno)}" if isinstance(error, OSError) and error.errno else ""
    return RemoteError.of(
        reference,
        f"cannot be fetched ({type(error).__name__}{why}); is it there, and do the credentials in the "
        "environment still hold?",
    )


_NO_CREDENTIALS = ("NoCredentialsError", "RefreshError", "DefaultCredentialsError", "TokenRetrievalError")
"""What the libraries of stores say before they ask one: none are there, or they cannot be renewed."""


def _is_of_credentials(error: BaseException | None) -> bool:
    """By the kinds and numbers of an error and of those that led to it; stores wrap what their servers say."""
    while error is not None:
        answers = [getattr(error, name, None) for name in ("status", "code", "status_code")]
        if isinstance(error, PermissionError) or 401 in answers or 403 in answers:
            return True
        if type(error).__name__ in _NO_CREDENTIALS:
            return True
        error = error.__cause__ or error.__context__
    return False


def _chunks(store: Any, path: str, reference: str) -> Iterator[bytes]:
    """What the store sends; its errors are not those of the file that is written."""
    try:
        with store.open(path, "rb") as source:
            while chunk := source.read(_CHUNK):
                yield chunk
    except Exception as error:  # noqa: BLE001 - every store has exceptions of its own
        raise _refused(reference, error) from None


def _copy(chunks: Iterator[bytes], target: Path, reference: str, size: int | None) -> None:
    count = 0
    with target.open("wb") as file:
        for chunk in chunks:
            count += len(chunk)
            if count > MOST_BYTES:
                raise RemoteError.of(reference, f"more than {MOST_BYTES} bytes, which is the most that is fetched")
            file.write(chunk)
    if size is not None and count != size:
        raise RemoteError.of(reference, f"{count} bytes came, the store said {size}; try again")


def _key(reference: str, info: dict[str, Any]) -> str:
    """Over the address and whatever the store says that changes with the content."""
    facts = [reference, *(f"{name}={info[name]}" for name in ("size", *MARKS) if info.get(name) is not None)]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()


def _name(reference: str) -> str:
    """Only the ending, by which the format is known; the name itself may be a person's."""
    name = Path(urlsplit(reference).path).name
    endings = [part for part in name.lower().split(".")[1:][-2:] if re.fullmatch(r"[a-z0-9]{1,8}", part)]
    return ".".join(["scan", *endings])


def remote_folder() -> Path:
    """Scans that were brought here; safe to delete when nothing runs."""
    return home.home_folder() / "remote"


def trim(folder: Path, limit_bytes: int = LIMIT_BYTES) -> int:
    """Remove what was used longest ago, until the folder is within its limit; how many files went."""
    entries = []
    for path in folder.glob("*/scan*"):
        try:
            state = path.stat()
        except OSError:
            continue  # another process removed it
        entries.append((state.st_mtime, state.st_size, path))
    total, removed = sum(size for _, size, _ in entries), 0
    for used, size, path in sorted(entries):
        if total <= limit_bytes or time.time() - used < RECENT_S:
            break
        path.unlink(missing_ok=True)
        total, removed = total - size, removed + 1
    return removed
