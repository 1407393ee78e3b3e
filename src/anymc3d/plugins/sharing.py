"""Plugins that travel: ``push`` to and ``pull`` from a folder, an HTTPS mirror, or the Hugging Face Hub.

All three hold the same: ``plugin.safetensors``, ``README.md`` and, where it was signed, ``plugin.safetensors.sig``. A
pull opens the one place that was named and nothing that a file names; it is bounded, and the file is put in place
only after hash, signature and every check of the plugin's card.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from anymc3d.errors import DownloadError, PluginError, UsageError
from anymc3d.files import atomic, hub, regular
from anymc3d.files.containment import inside
from anymc3d.files.download import SILENCE_S, Progress, Request, fetched, without_secret
from anymc3d.plugins.file import MAX_BASELINE_BYTES, load_plugin
from anymc3d.plugins.hub_page import hub_page
from anymc3d.plugins.lock_lines import is_digest, locked_hash, write_lock
from anymc3d.plugins.signature import MAX_SIGNATURE_BYTES, check_signature, sign
from anymc3d.printable import shown

FILE, PAGE, SIGNATURE = "plugin.safetensors", "README.md", ".sig"
MIRROR_VARIABLE = "ANYMC3D_MIRROR_TOKEN"
"""A token for an HTTPS mirror; sent to the host that was named, and to no other."""


@dataclass(frozen=True)
class Place:
    """Where plugins lie. ``text``: as it was named, without secrets; ``base``: folder, address or repository."""

    kind: Literal["folder", "mirror", "hub"]
    text: str
    base: str
    revision: str = "main"


@dataclass(frozen=True)
class Transfer:
    """What was pushed or pulled: ``signed_by``: the public key, where there is a checked or new signature."""

    place: str
    sha256: str
    signed_by: str | None


def place_of(text: str) -> Place:
    """``hf://OWNER/NAME[@REVISION]``, ``https://…`` or a folder.

    Raises:
        UsageError: another kind of address, or one with secrets or ``..`` in it.
    """
    if text.startswith(hub.SCHEME):
        repository, revision = hub.parse_repository(text)
        return Place("hub", f"{hub.SCHEME}{repository}@{revision}", repository, revision)
    parts = urllib.parse.urlsplit(text) if "://" in text else None
    if parts is None:
        return Place("folder", text, text)
    clean = without_secret(text)
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise UsageError(f"expected a folder, https://… or hf://OWNER/NAME, got '{shown(clean, 120)}'")
    if clean != text:
        raise UsageError(
            f"{clean}: expected an address without name, password, query and fragment; "
            f"a token comes from {MIRROR_VARIABLE}"
        )
    if ".." in urllib.parse.unquote(parts.path) or "\\" in text:
        raise UsageError(f"{shown(clean, 120)}: expected an address without .. in it")
    return Place("mirror", clean, clean.rstrip("/"))


def push(plugin_path: Path, target: str, *, key: Path | None = None, private: bool = True) -> Transfer:
    """Put a plugin, its page and, with ``key``, a signature at a place.

    Raises:
        AnyMC3DError: the plugin is not whole, or the place refuses.
    """
    place = place_of(target)
    if place.base.endswith(".safetensors"):
        raise UsageError(f"{place.text}: expected the folder that will hold {FILE}, not a file")
    plugin = load_plugin(plugin_path)
    content = plugin_path.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    signature = None if key is None else sign(sha256, key)
    signed_by = None if signature is None else signature.split()[3]
    files = {FILE: content, PAGE: hub_page(plugin, plugin_path, FILE, sha256, signed_by).encode()}
    if signature is not None:
        files[FILE + SIGNATURE] = signature.encode()
    if place.kind == "folder":
        folder = Path(place.base)
        for name, file_bytes in files.items():
            atomic.write_bytes(inside(folder, name), file_bytes)
        if signature is None:  # one of the plugin that lay there before would only be wrong
            inside(folder, FILE + SIGNATURE).unlink(missing_ok=True)
        return Transfer(place.text, sha256, signed_by)
    if place.kind == "hub":
        message = f"{plugin.card.name}, sha256 {sha256[:12]}"
        where = hub.upload(place.base, files, revision=place.revision, message=message, private=private)
        return Transfer(where, sha256, signed_by)
    for name, file_bytes in files.items():
        _put(f"{place.base}/{name}", file_bytes)
    return Transfer(place.text, sha256, signed_by)


def pull(
    source: str,
    out: Path,
    *,
    sha256: str | None = None,
    keys: Sequence[str] = (),
    lock: Path | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Transfer:
    """Bring a plugin to ``out``, checked.

    Args:
        source: see :func:`place_of`; a mirror's address or a path may also be that of a ``.safetensors`` file.
        out: the file it becomes.
        sha256: the hash its file must have.
        keys: public keys, of which one must have signed it; none: no signature is asked for.
        lock: a file of pins; a source that stands there must have that hash, another is added.
        overwrite: whether another file at ``out`` may go.
        progress: called as the download goes on.

    Raises:
        AnyMC3DError: it is not there, not what was pinned, not signed by one of ``keys``, or no whole plugin.
    """
    if out.suffix != ".safetensors" or (out.exists() and not out.is_file()):
        raise UsageError(f"--out: expected the name of a .safetensors file, got {out}")
    place = place_of(source)
    pin = _pin(sha256, None if lock is None else locked_hash(lock, place.text), place)
    if place.text.startswith("http://") and pin is None and not keys:
        raise UsageError(f"{place.text}: whoever is on the way can change what arrives by http; give --sha256 or https")
    if pin is not None and not keys and out.exists() and _hash(out) == pin:
        return Transfer(place.text, pin, None)
    with _fetched(place, pin, progress) as (file, digest):
        signature = _signature(place) if keys else None
        signed_by = check_signature(signature, digest, keys, place.text) if keys else None
        try:
            load_plugin(file)
        except PluginError as error:
            raise PluginError(f"{place.text}: {str(error).removeprefix(f'{file}: ')}; nothing was kept") from None
        if out.exists() and not overwrite and _hash(out) != digest:
            raise UsageError(f"--out: {out} holds something else; choose another file, or --overwrite it")
        with atomic.replacing(out, needed=file.stat().st_size) as temporary:
            shutil.copyfile(file, temporary)
        if signature is not None:
            atomic.write_text(out.with_name(out.name + SIGNATURE), signature)
    if lock is not None:
        write_lock(lock, place.text, digest)
    return Transfer(place.text, digest, signed_by)


def signer(path: Path, keys: Sequence[str]) -> str:
    """The one of ``keys`` that signed a plugin's file, by the ``.sig`` beside it.

    Raises:
        PluginError: none of them did, or the file was changed since.
    """
    place = Place("folder", str(path), str(path))
    return check_signature(_signature(place), _hash(path), keys, str(path))


def _pin(sha256: str | None, locked: str | None, place: Place) -> str | None:
    sha256 = None if sha256 is None else sha256.lower().removeprefix("sha256:")
    if sha256 is not None and not is_digest(sha256):
        raise UsageError(f"--sha256: expected 64 hexadecimal digits, got '{shown(sha256, 80)}'")
    if sha256 is not None and locked is not None and sha256 != locked:
        raise UsageError(f"{place.text}: --sha256 and the lock file name different hashes; correct one of them")
    return sha256 or locked


@contextmanager
def _fetched(place: Place, pin: str | None, progress: Progress | None) -> Iterator[tuple[Path, str]]:
    """The plugin's file with its hash; of a folder a copy, so that what was checked is what is used."""
    if place.kind == "folder":
        path = _file_in(place)
        with tempfile.TemporaryDirectory(prefix="anymc3d-") as folder:
            copy = Path(folder) / FILE
            with copy.open("wb") as output:
                digest = _hash(path, output)
            if pin not in (None, digest):
                raise DownloadError(f"{path}: expected sha256 {pin}, got {digest}; nothing was kept")
            yield copy, digest
        return
    request = _request(place, MAX_BASELINE_BYTES, progress)
    try:
        with fetched(_address(place), FILE, request, sha256=pin) as copy_and_digest:
            yield copy_and_digest
    except DownloadError as error:
        more = hub.explained(error, place.base) if place.kind == "hub" else ""
        raise DownloadError(f"{error}; {more}" if more else str(error), answer=error.answer) from None


def _signature(place: Place) -> str | None:
    try:
        if place.kind == "folder":
            path = _file_in(place)
            with regular.opened(path.with_name(path.name + SIGNATURE)) as file:
                content = file.read(MAX_SIGNATURE_BYTES + 1)
        else:
            request = _request(place, MAX_SIGNATURE_BYTES, None)
            with fetched(_address(place) + SIGNATURE, "signature", request) as (path, _):
                content = path.read_bytes()
    except FileNotFoundError:
        return None
    except DownloadError as error:
        if error.answer in (404, 410):
            return None
        raise
    return content.decode("ascii", errors="replace")


def _file_in(place: Place) -> Path:
    path = Path(place.base)
    return inside(path, FILE) if path.is_dir() else path


def _address(place: Place) -> str:
    if place.kind == "hub":
        return hub.file_address(place.base, FILE, place.revision)
    return place.base if place.base.endswith(".safetensors") else f"{place.base}/{FILE}"


def _request(place: Place, most: int, progress: Progress | None) -> Request:
    of_hub = place.kind == "hub"
    token = hub.token() if of_hub else _mirror_token()
    return Request(max_bytes=most, token=token, other_hosts=of_hub, progress=progress)


def _mirror_token() -> str | None:
    return hub.token(MIRROR_VARIABLE)


def _hash(path: Path, copy: BinaryIO | None = None) -> str:
    """SHA-256 of a file that is no longer than a plugin can be; ``copy``: what is hashed is also written there."""
    digest, size = hashlib.sha256(), 0
    try:
        with regular.opened(path) as file:
            while block := file.read(1 << 20):
                size += len(block)
                if size > MAX_BASELINE_BYTES:
                    raise PluginError(f"{path}: expected at most {MAX_BASELINE_BYTES} bytes: not a plugin")
                digest.update(block)
                if copy is not None:
                    copy.write(block)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({os.strerror(error.errno or 0)})") from None
    return digest.hexdigest()


def _put(address: str, content: bytes) -> None:
    """Write one file to a mirror that takes HTTP PUT (WebDAV, object stores, package servers)."""
    request = urllib.request.Request(address, data=content, method="PUT")
    request.add_header("Content-Type", "application/octet-stream")
    token = _mirror_token()
    if token is not None:
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    opener = urllib.request.build_opener(_NoRedirect)
    try:
        with opener.open(request, timeout=SILENCE_S):
            pass
    except OSError as error:
        code = error.code if isinstance(error, urllib.error.HTTPError) else None
        why = f"the server answered {code}" if code else str(getattr(error, "reason", error))
        raise UsageError(
            f"{address}: cannot be written ({shown(why)}); does the mirror take PUT there, and may the token in "
            f"{MIRROR_VARIABLE} write?"
        ) from None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_args: object, **_named: object) -> None:
        """A plugin is sent to the address that was named, or not at all."""
