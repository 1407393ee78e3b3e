"""What is to be sent to which peer: kept in the queue's file, in one transaction with the answer itself.

A delivery is ``waiting``, ``sending``, ``sent`` or ``failed``. Where the service ended while one was ``sending``,
nobody knows whether it arrived: the peer is asked, and only what it does not have is sent again, under the same UIDs.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anymc3d.serve.delivery_table import FAILED, SENDING, SENT, WAITING
from anymc3d.serve.peers import Peer, SendError

if TYPE_CHECKING:
    from anymc3d.serve.service import Service

logger = logging.getLogger(__name__)

FIRST_PAUSE_S, LONGEST_PAUSE_S, MAX_ATTEMPTS = 5.0, 3600.0, 24
"""Pauses double; the last attempt is most of a day after the first."""
STOP_S = 2.0
"""That a file on its way has, after the stop of all else; it has had the time of that, too."""
_LOOK_S = 1.0


class Deliveries:
    """Sends what waits, to each peer one file at a time, until it is stopped; a slow peer keeps no other waiting."""

    def __init__(self, service: Service, peers: Sequence[Peer]) -> None:
        self._service, self._peers = service, {peer.name: peer for peer in peers}
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(name,), name="deliveries", daemon=True) for name in self._peers
        ]

    def start(self) -> None:
        """Begin to send."""
        for thread in self._threads:
            thread.start()

    def begin_stop(self) -> None:
        """Begin no further file."""
        self._stopping.set()
        with self._service.jobs.changed:
            self._service.jobs.changed.notify_all()

    def stop(self) -> None:
        """Send no more; what waits is sent after the next start, and a peer is asked for what was on its way."""
        self.begin_stop()
        deadline = time.monotonic() + STOP_S
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(deadline - time.monotonic(), 0.0))
        for thread, peer in zip(self._threads, self._peers.values(), strict=True):
            if thread.is_alive():
                peer.break_off()
                thread.join(STOP_S)

    def _run(self, name: str) -> None:
        while not self._stopping.is_set():
            try:
                if not self.send_one(name):
                    with self._service.jobs.changed:
                        self._service.jobs.changed.wait(_LOOK_S)
            except Exception:
                logger.exception("deliveries stopped; they go on in a while")
                self._stopping.wait(LONGEST_PAUSE_S / 60)

    def send_one(self, name: str) -> bool:
        """Send what is due to a peer; False where nothing is."""
        due = self._service.jobs.deliveries.due(name, time.time())
        if due is None:
            return False
        peer, path = self._peers[name], self._service.results(due["job"]) / due["file"]
        state, message, next_at = SENT, "", 0.0
        try:
            if not path.is_file():
                raise SendError("the file is gone", for_good=True)
            if not (due["state"] == SENDING and peer.has(path)):
                self._service.jobs.deliveries.note(due["number"], SENDING, attempts=due["attempts"] + 1)
                peer.send(path)
        except SendError as error:
            attempts = due["attempts"] + 1
            is_over = error.for_good or attempts >= MAX_ATTEMPTS
            again = SENDING if error.is_unsure else WAITING  # then the peer is asked before it is sent again
            state, message = (FAILED if is_over else again), str(error)
            next_at = time.time() + min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** (attempts - 1))
            logger.warning("%s: a file could not be sent, attempt %d: %s", peer.name, attempts, error)
        self._service.jobs.deliveries.note(due["number"], state, message=message, next_at=next_at)
        if state in (SENT, FAILED):
            what = f"sent {Path(due['file']).suffixes[-2]}" if state == SENT else f"could not be sent: {message}"
            self._service.jobs.audit.note(f"peer {peer.name}", what, due["job"])
        return True


def to_send(peers: Sequence[str], record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Peer and file of every delivery that an answer makes: all its DICOM objects."""
    return [(peer, file) for peer in peers for file in record.get("files", ()) if file.endswith(".dcm")]
