"""The DICOM node: C-ECHO and C-STORE (DICOM PS3.4 B), for peers that are named.

What a peer may cost is bounded before anything is parsed: connections, the length of one message, and the time between
two pieces of it. Deflated data are not negotiated: their size is not known before they are inflated.
"""

from __future__ import annotations

import logging
import socket
from typing import TYPE_CHECKING, Any

from pynetdicom import AE, AllStoragePresentationContexts, _config, evt
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.sop_class import Verification

from anymc3d.data.dicom.codestream import SUPPORTED
from anymc3d.data.dicom.header import DEFLATED, NATIVE
from anymc3d.errors import ServiceError
from anymc3d.serve.incoming import Incoming, Line, RefusedFileError
from anymc3d.serve.node_settings import NodeSettings

if TYPE_CHECKING:
    from pynetdicom.association import Association
    from pynetdicom.events import Event

logger = logging.getLogger(__name__)

SYNTAXES = [*(syntax for syntax in NATIVE if syntax != DEFLATED), *SUPPORTED]
SUCCESS, NO_ROOM, NOT_UNDERSTOOD, NOT_ALLOWED = 0x0000, 0xA700, 0xC000, 0x0124
"""Statuses of C-STORE (DICOM PS3.4 B.2.3) and of any operation (PS3.7 C.5)."""
MAX_PDU = 2**17
MAX_ASSOCIATIONS = 16
IDLE_S = 60.0
_COMMAND = bytes.fromhex("00000000 04000000")
"""How a command begins: its group length (PS3.7 E.1)."""
_SLACK = 2**20
"""Of a request to associate, which lists contexts and may be longer than other units."""


class DicomListener:
    """Listens until it is stopped.

    Raises:
        UsageError: the port cannot be had.
    """

    def __init__(self, incoming: Incoming, node: NodeSettings, *, max_file_bytes: int) -> None:
        self._incoming, self._node, self._max_bytes = incoming, node, max_file_bytes
        self._lines: dict[Association, Line] = {}
        self._meters: dict[Association, _Meter] = {}
        logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)  # it logs what peers send
        _config.LOG_HANDLER_LEVEL = "none"  # and stumbles over a request without a UID before others hear of it
        self._entity = _entity(node)
        handlers: list[Any] = [
            (evt.EVT_CONN_OPEN, self._connected),
            (evt.EVT_DIMSE_RECV, self._received),
            (evt.EVT_C_ECHO, self._echo),
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_RELEASED, lambda event: self._ended(event.assoc, whole=True)),
            (evt.EVT_ABORTED, lambda event: self._ended(event.assoc, whole=False)),
            (evt.EVT_CONN_CLOSE, lambda event: self._ended(event.assoc, whole=False)),
        ]
        try:
            server = self._entity.start_server((node.dicom_host, node.dicom_port), block=False, evt_handlers=handlers)
        except OSError as error:
            where = f"--dicom-host {node.dicom_host} --dicom-port {node.dicom_port}"
            raise ServiceError(f"{where}: cannot listen there ({error.strerror})") from None
        assert server is not None
        self._server = server

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_address[1])

    def stop(self) -> None:
        """End all associations and listen no longer."""
        self._entity.shutdown()

    def _connected(self, event: Event) -> None:
        stream: Any = event.assoc.dul.socket
        self._meters[event.assoc] = _Meter(stream, self._max_bytes)

    def _is_allowed(self, association: Association) -> bool:
        """By address, where a peer is named with one; its title was compared before."""
        title = str(association.requestor.ae_title).strip()
        hosts = [host for name, _, host in (peer.partition("@") for peer in self._node.allow_ae) if name == title]
        return not hosts or "" in hosts or association.requestor.address in {_address(host) for host in hosts}

    def _echo(self, event: Event) -> int:
        self._meters[event.assoc].begin_again()
        return SUCCESS if self._is_allowed(event.assoc) else NOT_ALLOWED

    def _received(self, event: Event) -> None:
        """Count requests to store; one whose data set never came is in one message with the next."""
        if isinstance(event.message, C_STORE_RQ):
            self._meters[event.assoc].asked += event.message.encoded_command_set.getvalue().count(_COMMAND)

    def _store(self, event: Event) -> int:
        association = event.assoc
        meter = self._meters[association]
        meter.begin_again()
        meter.heard += 1
        if not self._is_allowed(association):
            return NOT_ALLOWED
        line = self._lines.get(association)
        if line is None:
            title = "".join(letter for letter in str(association.requestor.ae_title).strip() if letter.isprintable())
            line = self._lines[association] = self._incoming.opened(f"dicom {title}")
        try:
            content = event.request.DataSet
            self._incoming.check_room(0 if content is None else content.getbuffer().nbytes)
            temporary = self._incoming.temporary()
            temporary.write_bytes(event.encoded_dataset())
            self._incoming.take(line, temporary, sop_uid=str(event.request.AffectedSOPInstanceUID))
        except RefusedFileError as error:
            self._incoming.refuse(line, error.reason)
            return NO_ROOM if error.no_room else NOT_UNDERSTOOD
        except Exception as error:
            logger.error("a DICOM file could not be taken: %s", type(error).__name__, exc_info=error)
            self._incoming.refuse(line, "an internal error")
            return NO_ROOM
        return SUCCESS

    def _ended(self, association: Association, *, whole: bool) -> None:
        meter, line = self._meters.pop(association, None), self._lines.pop(association, None)
        if line is not None:
            if meter is not None and meter.heard < meter.asked:  # pynetdicom drops what lacks a data set or a UID
                self._incoming.refuse(line, "it has no data set or no SOPInstanceUID")
            self._incoming.closed(line, whole=whole)


class _Meter:
    """Bounds what one connection may make this process hold: pynetdicom keeps a message in memory until its end."""

    def __init__(self, stream: Any, most: int) -> None:
        self._stream, self._read, self._most, self._seen = stream, stream.recv, most, 0
        self.asked = self.heard = 0  # requests to store: that came, and that reached the handler; a thread for each
        if stream.socket is not None:
            stream.socket.settimeout(IDLE_S)
        stream.recv = self._bounded

    def begin_again(self) -> None:
        """A message has ended."""
        self._seen = 0

    def _bounded(self, count: int) -> bytearray:
        self._seen += count
        if count > _SLACK or self._seen > self._most + _SLACK:
            self._stream.socket.close()  # pynetdicom takes the error for a peer that closed it
            raise OSError("a message is longer than this service takes")
        message: bytearray = self._read(count)
        return message


def _entity(node: NodeSettings) -> AE:
    entity = AE(ae_title=node.ae_title)
    entity.maximum_associations, entity.maximum_pdu_size = MAX_ASSOCIATIONS, MAX_PDU
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = IDLE_S
    entity.require_called_aet = True
    entity.require_calling_aet = [peer.partition("@")[0] for peer in node.allow_ae]
    entity.add_supported_context(Verification)
    for context in AllStoragePresentationContexts:
        assert context.abstract_syntax is not None
        entity.add_supported_context(context.abstract_syntax, SYNTAXES)
    return entity


def _address(host: str) -> str:
    try:
        return socket.gethostbyname(host)
    except OSError:
        return host
