"""One file from an address: bounded, resumable, never over something weaker; for commands that were asked to fetch.

A broken connection leaves what has come in ``ANYMC3D_HOME/downloads``; the same command again asks the server for the
rest, if the server said by what mark (``ETag`` or ``Last-Modified``) it knows that the file is still the same.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import IO

from anymc3d.errors import DownloadError
from anymc3d.files import atomic, regular
from anymc3d.files.containment import inside
from anymc3d.files.folders import locked
from anymc3d.files.home import home_folder
from anymc3d.files.private import make_private
from anymc3d.printable import shown

CHUNK_BYTES = 1 << 20
SILENCE_S = 60
TOTAL_S = 6 * 3600
KEPT_S = 7 * 24 * 3600
"""What a broken download left is kept so long."""
MOST_MARK = 500
"""Characters of a mark that is kept."""

Progress = Callable[[int, int], None]
"""Called with the bytes that are here and the bytes in all."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What may be asked of a server. ``token`` goes to the host of the address alone, never to where it redirects.

    ``other_hosts``: whether a redirect may lead to another host; never to another scheme but https.
    """

    max_bytes: int
    token: str | None = None
    other_hosts: bool = True
    progress: Progress | None = None
    total_s: float = TOTAL_S


def without_secret(address: str) -> str:
    """An address without the name and password before its host, and without query and fragment."""
    parts = urllib.parse.urlsplit(address)
    return urllib.parse.urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


@contextmanager
def fetched(address: str, name: str, request: Request, *, sha256: str | None = None) -> Iterator[tuple[Path, str]]:
    """The file at an address under a ``name`` of ours, and its SHA-256, while the block runs.

    Raises:
        DownloadError: as :func:`download`, or it has another hash than ``sha256``; then nothing is kept.
        RunFolderError: another process is fetching it.
    """
    folder = _folder() / hashlib.sha256(address.encode()).hexdigest()[:32]
    make_private(folder)
    _forget_old(folder)
    file, mark = inside(folder, name), folder / "mark"
    with locked(folder):
        keep = True
        try:
            digest = download(address, file, request, mark=mark)
            keep = False
            if sha256 is not None and digest != sha256.lower():
                raise DownloadError(
                    f"{without_secret(address)}: expected sha256 {sha256.lower()}, got {digest}; nothing was kept"
                )
            yield file, digest
        finally:
            if not keep or _known_mark(file, mark) is None:
                shutil.rmtree(folder, ignore_errors=True)


def download(address: str, file: Path, request: Request, *, mark: Path | None = None) -> str:
    """Write what is at ``address`` to ``file`` and return its SHA-256.

    ``mark``: a file that holds by what the server knows the content; with it a download that broke off is continued.

    Raises:
        DownloadError: the server fails, is silent, sends too much or too little, or leads where it may not.
    """
    if urllib.parse.urlsplit(address).scheme not in ("https", "http"):
        raise DownloadError(f"{without_secret(address)}: expected an address that begins with https://")
    known = _known_mark(file, mark)
    try:
        try:
            return _transfer(address, file, request, mark, known)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code != 416 or known is None:
                raise
            return _transfer(address, file, request, mark, None)
    except (OSError, HTTPException, ValueError) as error:
        code = error.code if isinstance(error, urllib.error.HTTPError) else None
        reason = f"the server answered {code}" if code else _reason(error)
        reason = "redirected to what is not an https address, or in a circle" if code and code < 400 else reason
        raise DownloadError(f"{without_secret(address)} cannot be fetched: {shown(reason)}", answer=code) from None


def _transfer(address: str, file: Path, request: Request, mark: Path | None, known: str | None) -> str:
    begun = file.stat().st_size if known is not None else 0
    headers = {"Accept-Encoding": "identity"}
    headers |= {"Range": f"bytes={begun}-", "If-Range": known} if known is not None else {}
    fetching = urllib.request.Request(address, headers=headers)
    if request.token is not None:
        fetching.add_unredirected_header("Authorization", f"Bearer {request.token}")
    opener = urllib.request.build_opener(_Redirects(request))
    with opener.open(fetching, timeout=min(SILENCE_S, request.total_s)) as response:
        begun = begun if response.status == 206 else 0
        total = _total(response, begun, address, request.max_bytes)
        digest = hashlib.sha256()
        if begun:
            digest.update(regular.read_bytes(file))
        elif mark is not None:
            file.unlink(missing_ok=True)
            atomic.write_text(mark, _mark_of(response))
        received = _write(response, file, digest.update, begun, total, address, request)
    if received != total:
        hint = "; the same command continues there" if mark is not None and regular.read_text(mark) else ""
        raise DownloadError(f"{without_secret(address)}: the connection ended after {received} of {total} bytes{hint}")
    return digest.hexdigest()


def _write(
    response: HTTPResponse,
    file: Path,
    digest: Callable[[bytes], None],
    received: int,
    total: int,
    address: str,
    request: Request,
) -> int:
    """Append what comes to ``file``; how many bytes it has then. A server that breaks off is no error here."""
    deadline = time.monotonic() + request.total_s
    with file.open("ab" if received else "wb") as output:
        while block := _next(response):
            received += len(block)
            if received > total or time.monotonic() > deadline:
                where = f"stopped after {received} of {total} bytes in {request.total_s:g} s"
                raise DownloadError(f"{without_secret(address)}: {where}")
            digest(block)
            output.write(block)
            if request.progress is not None:
                request.progress(received, total)
    return received


def _next(response: HTTPResponse) -> bytes:
    try:
        return response.read1(CHUNK_BYTES)
    except (ConnectionError, TimeoutError, HTTPException):
        return b""  # what has come is kept; the count says that it is not all


def _total(response: HTTPResponse, begun: int, address: str, most: int) -> int:
    """How many bytes the whole file has, as the server says before anything is read."""
    length = response.headers.get("Content-Length", "")
    total = begun + int(length) if length.isdigit() and len(length) < 19 else None
    if total is None or total > most:
        announced = length[:20] or "no length"
        raise DownloadError(
            f"{without_secret(address)}: expected at most {most} bytes, the server announces {announced}"
        )
    if begun and response.headers.get("Content-Range", "") != f"bytes {begun}-{total - 1}/{total}":
        raise DownloadError(f"{without_secret(address)}: the server sent another part of the file than was asked for")
    return total


def _known_mark(file: Path, mark: Path | None) -> str | None:
    if mark is None or not mark.exists() or not file.exists() or file.stat().st_size == 0:
        return None
    return regular.read_text(mark) or None


def _mark_of(response: HTTPResponse) -> str:
    """A strong ETag or a date; empty where the server gives neither, and then nothing can be continued."""
    tag = response.headers.get("ETag", "")
    mark = tag if tag.startswith('"') else response.headers.get("Last-Modified", "")
    return mark if len(mark) <= MOST_MARK and mark.isprintable() and mark.isascii() else ""


def _reason(error: Exception) -> str:
    return str(getattr(error, "reason", "") or error)


def _folder() -> Path:
    return home_folder() / "downloads"


def _forget_old(folder: Path) -> None:
    for other in folder.parent.iterdir():
        with contextlib.suppress(OSError):
            if other != folder and time.time() - other.stat().st_mtime > KEPT_S:
                shutil.rmtree(other)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Never from https to something weaker; to another host only where that may be, and then without the token."""

    def __init__(self, request: Request) -> None:
        self.request = request

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> urllib.request.Request | None:
        """The next request; see :class:`Request`."""
        before, after = urllib.parse.urlsplit(req.full_url), urllib.parse.urlsplit(newurl)
        if after.scheme not in ("https", before.scheme):
            raise urllib.error.URLError(f"redirected from {before.scheme} to {without_secret(newurl)[:100]}")
        is_same = (before.scheme, before.netloc) == (after.scheme, after.netloc)
        if not (is_same or self.request.other_hosts):
            raise urllib.error.URLError(
                f"redirected to another host ({shown(after.hostname or '', 80)}); if you trust it, give its address"
            )
        next_request = super().redirect_request(req, fp, code, msg, headers, newurl)
        if next_request is not None and is_same and req.has_header("Authorization") and self.request.token is not None:
            next_request.add_unredirected_header("Authorization", f"Bearer {self.request.token}")
        return next_request
