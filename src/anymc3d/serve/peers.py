"""Peers that answers are sent to: a DICOM node (C-STORE) or a DICOMweb server (STOW-RS). Who they are says the
configuration alone: nothing that comes in can name one."""

from __future__ import annotations

import json
import re
import socket
import urllib.error
import urllib.request
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from anymc3d.errors import ServiceError
from anymc3d.serve.incoming import MAKER

TIMEOUT_S = 60.0
_NODE = re.compile(
    r"(?P<title>[A-Za-z0-9][A-Za-z0-9 _.-]{0,15})@(?P<host>[A-Za-z0-9.-]{1,253}|\[[0-9a-fA-F:]+\]):(?P<port>\d{1,5})"
)
_REFUSED_FOR_GOOD = (400, 406, 409, 415, 422)
_BOUNDARY = "anymc3d-part"


class SendError(Exception):
    """A file was not stored. ``for_good``: the peer will not take it when it is sent again either; ``is_unsure``: it
    may have been stored, and the answer was lost."""

    def __init__(self, message: str, *, for_good: bool = False, is_unsure: bool = False) -> None:
        super().__init__(message)
        self.for_good, self.is_unsure = for_good, is_unsure


class Peer(Protocol):
    """Whom files are sent to; ``name`` is as in the configuration."""

    name: str

    def send(self, path: Path) -> None:
        """Send one file.

        Raises:
            SendError: it is not stored there.
        """

    def has(self, path: Path) -> bool:
        """Whether the peer says that it has this object; False where it does not answer such questions."""

    def break_off(self) -> None:
        """End what is on its way, from another thread: the service stops, and the peer is silent."""


def peer_of(text: str, *, ae_title: str, headers: dict[str, str]) -> Peer:
    """A peer as ``AE@host:port``, or the URL of a STOW service that ends with ``/studies``.

    Raises:
        UsageError: it is neither.
    """
    node = _NODE.fullmatch(text)
    if node is not None and 0 < int(node["port"]) < 65536:
        return DicomPeer(text, node["title"], node["host"].strip("[]"), int(node["port"]), ae_title)
    parts = urlsplit(text)
    if parts.scheme in ("http", "https") and parts.hostname and parts.path.endswith("/studies") and not parts.query:
        if parts.username is not None or parts.password is not None:
            raise ServiceError(
                "--send-to: no password in a URL, which lists of processes show; give --send-header-file"
            )
        return StowPeer(text, dict(headers))
    raise ServiceError(f"--send-to {text[:80]}: expected AE@host:port, or a URL that ends with /studies")


@dataclass(frozen=True)
class DicomPeer:
    """A DICOM node."""

    name: str
    title: str
    host: str
    port: int
    own_title: str
    _open: set[Any] = field(default_factory=set, compare=False, repr=False)
    """Associations: a thread of pynetdicom for each keeps the whole program until they end."""

    def break_off(self) -> None:
        """See :class:`Peer`."""
        for association in tuple(self._open):
            stream = getattr(association.dul.socket, "socket", None)
            with suppress(OSError):
                if stream is not None:
                    stream.shutdown(socket.SHUT_RDWR)

    def send(self, path: Path) -> None:
        """See :class:`Peer`."""
        import pydicom

        dataset = pydicom.dcmread(path)
        association = self._associate([str(dataset.SOPClassUID)])
        try:
            status = association.send_c_store(dataset).get("Status")
        finally:
            association.release()
        if status is None:
            raise SendError("the peer broke off", is_unsure=True)
        if status != 0 and status >> 12 != 0xB:  # a warning is stored
            raise SendError(f"status 0x{status:04X}", for_good=status >> 8 == 0xA9 or status >> 12 == 0xC)

    def has(self, path: Path) -> bool:
        """See :class:`Peer`; by C-FIND."""
        import pydicom
        from pydicom.dataset import Dataset
        from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind as Find  # type: ignore[attr-defined]

        header, query = pydicom.dcmread(path, stop_before_pixels=True), Dataset()
        query.QueryRetrieveLevel = "IMAGE"
        for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
            setattr(query, name, header[name].value)
        try:
            association = self._associate([str(Find)])
        except SendError:
            return False
        try:
            return any(match is not None for _, match in association.send_c_find(query, Find))
        except (ValueError, RuntimeError):
            return False
        finally:
            association.release()

    def _associate(self, classes: list[str]) -> Any:
        from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
        from pynetdicom import AE, evt

        entity = AE(ae_title=self.own_title)
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = entity.connection_timeout = TIMEOUT_S
        for kind in classes:
            entity.add_requested_context(kind, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
        handlers: Any = [
            (evt.EVT_CONN_OPEN, lambda event: self._open.add(event.assoc)),
            (evt.EVT_CONN_CLOSE, lambda event: self._open.discard(event.assoc)),
        ]
        association = entity.associate(self.host, self.port, ae_title=self.title, evt_handlers=handlers)
        if not association.is_established:
            raise SendError("no association: the peer is not there, or refuses this AE title")
        if not association.accepted_contexts:
            association.release()
            raise SendError("the peer does not take objects of this class", for_good=True)
        return association


@dataclass(frozen=True)
class StowPeer:
    """A DICOMweb server; ``headers`` go with every request, such as its password."""

    name: str
    headers: dict[str, str]

    def break_off(self) -> None:
        """Nothing waits for its connection at the end."""

    def send(self, path: Path) -> None:
        """See :class:`Peer`."""
        head = f"--{_BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        body = b"".join((head, path.read_bytes(), f"\r\n--{_BOUNDARY}--\r\n".encode()))
        kind = f'multipart/related; type="application/dicom"; boundary={_BOUNDARY}'
        self._answered(
            urllib.request.Request(self.name, body, {"Content-Type": kind, "Accept": "application/dicom+json"})
        )

    def has(self, path: Path) -> bool:
        """See :class:`Peer`; by QIDO-RS."""
        import pydicom

        uid = str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID)
        url = f"{self.name.removesuffix('/studies')}/instances?SOPInstanceUID={uid}"
        try:
            instances = json.loads(
                self._answered(urllib.request.Request(url, headers={"Accept": "application/dicom+json"}))
            )
        except (SendError, ValueError):
            return False
        return isinstance(instances, list) and bool(instances)

    def _answered(self, request: urllib.request.Request) -> bytes:
        for name, value in self.headers.items():
            request.add_header(name, value)
        request.add_header("User-Agent", MAKER)
        try:
            with _OPENER.open(request, timeout=TIMEOUT_S) as answer:
                content: bytes = answer.read(2**20)
                if answer.status == 202:  # some parts were not stored, and there was one
                    raise SendError("status 202: not stored", for_good=True)
                return content
        except urllib.error.HTTPError as error:
            error.close()
            raise SendError(f"status {error.code}", for_good=error.code in _REFUSED_FOR_GOOD) from None
        except (OSError, ValueError) as error:
            raise SendError(f"no connection ({type(error).__name__})", is_unsure=True) from None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would send a study, and the password, to somebody whom the configuration does not name."""

    def redirect_request(self, *_: Any) -> None:
        """Follow none."""
        return


_OPENER = urllib.request.build_opener(_NoRedirect, urllib.request.ProxyHandler({}))


def read_headers(path: Path) -> dict[str, str]:
    """Headers for STOW peers, one ``Name: value`` in a line; the file keeps passwords out of the command line.

    Raises:
        UsageError: it cannot be read, others may read it, or a line is no header.
    """
    try:
        if path.stat().st_mode & 0o077:
            raise ServiceError(f"--send-header-file {path}: other users can read it; chmod 600")
        lines = [line for line in path.read_text(encoding="ascii").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise ServiceError(f"--send-header-file {path}: cannot be read ({type(error).__name__})") from None
    headers = {}
    for number, line in enumerate(lines, start=1):
        name, colon, value = line.partition(":")
        if not colon or re.fullmatch(r"[A-Za-z0-9-]{1,64}", name) is None or not value.strip().isprintable():
            raise ServiceError(f"--send-header-file {path}: line {number}: expected Name: value")
        headers[name] = value.strip()
    return headers
