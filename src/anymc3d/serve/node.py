"""The DICOM side of a service: what listens, gathers, watches and sends, started and stopped together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anymc3d.serve.deliveries import Deliveries
from anymc3d.serve.dicom_listener import DicomListener
from anymc3d.serve.incoming import Incoming
from anymc3d.serve.rules import check_names
from anymc3d.serve.watch import Watcher

if TYPE_CHECKING:
    from anymc3d.serve.service import Service


class Node:
    """Made before the plugins are loaded, so that wrong settings are said at once.

    Raises:
        UsageError: the watched folder is none.
    """

    def __init__(self, service: Service) -> None:
        self._service, self._settings = service, service.settings.node
        node, most = self._settings, service.settings.max_upload_bytes
        self.incoming = Incoming(service, quiet_s=node.quiet_s, max_study_bytes=most)
        self.watcher = None if node.watch is None else Watcher(service, node.watch, quiet_s=node.quiet_s)
        self.deliveries = Deliveries(service, node.peers())
        self.listener: DicomListener | None = None

    def start(self) -> None:
        """Begin; the plugins are known now.

        Raises:
            UsageError: rules name a plugin that is not resident, or the port cannot be had.
        """
        node = self._settings
        if node.rules is not None:
            check_names(node.rules, [str(plugin["name"]) for plugin in self._service.plugins])
        if node.dicom_port is not None:
            most = self._service.settings.max_upload_bytes
            self.listener = DicomListener(self.incoming, node, max_file_bytes=most)
        self.incoming.start()
        if self.watcher is not None:
            self.watcher.start()
        self.deliveries.start()

    def begin_stop(self) -> None:
        """Send no further file; :meth:`stop_sending` waits for the one on its way."""
        self.deliveries.begin_stop()

    def stop_taking(self) -> None:
        """Take nothing more in."""
        if self.listener is not None:
            self.listener.stop()
        self.incoming.stop()
        if self.watcher is not None:
            self.watcher.stop()

    def stop_sending(self) -> None:
        """Send nothing more; what waits is sent after the next start."""
        self.deliveries.stop()
