"""What a service does with DICOM: which objects it makes of an answer, and for whom."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from anymc3d.errors import ServiceError, did_you_mean
from anymc3d.explain.dicom_objects import LINKS
from anymc3d.report.finding_codes import FindingCode
from anymc3d.serve.peers import Peer, peer_of
from anymc3d.serve.rules import Rules

OBJECTS: Mapping[str, str] = {
    "sr": ".sr.dcm",
    "seg": ".seg.dcm",
    "map": ".map.dcm",
    "capture": ".sc.dcm",
}
"""Kind of DICOM object -> how its file's name ends. A map has four bytes for every voxel of the scan."""
_TITLE = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _.-]{0,15}")
DEFAULT_OBJECTS = ("sr", "seg", "capture")


@dataclass(frozen=True, kw_only=True)
class NodeSettings:
    """Settings of the DICOM side of a service; they are checked when they are made.

    Raises:
        UsageError: settings that are unknown or do not fit each other.
    """

    objects: tuple[str, ...] = DEFAULT_OBJECTS
    """Which of :data:`OBJECTS` are made of a study that came as DICOM."""
    link: str = "patient"
    """An entry of :data:`anymc3d.explain.dicom_objects.LINKS`."""
    codes: Mapping[str, FindingCode] = field(default_factory=dict)
    """Label -> code of its finding, for structured reports."""

    rules: Rules | None = None
    """Which series of a DICOM study goes to which plugin; None: all plugins are given the study as it is."""
    dicom_host: str = "127.0.0.1"
    dicom_port: int | None = None
    """None: no DICOM node."""
    ae_title: str = "ANYMC3D"
    allow_ae: tuple[str, ...] = ()
    """AE titles that may send, also with their host, as ``TITLE@host``."""
    send_to: tuple[str, ...] = ()
    """Peers that every DICOM object is sent to: ``AE@host:port``, or the URL of a STOW service."""
    send_headers: Mapping[str, str] = field(default_factory=dict)
    """Go with every request to STOW peers."""
    watch: Path | None = None
    """A folder whose entries are answered; None: no such folder."""
    quiet_s: float = 5.0
    """A study is taken when nothing of it came for so long."""

    def __post_init__(self) -> None:
        self._check_node()
        self.peers()
        for name in self.objects:
            if name not in OBJECTS:
                hint = did_you_mean(name, OBJECTS)
                raise ServiceError(f"--dicom-objects: unknown {name!r}{hint}; have {', '.join(OBJECTS)}")
        if self.link not in LINKS:
            hint = did_you_mean(self.link, LINKS)
            raise ServiceError(f"--dicom-link: unknown {self.link!r}{hint}; have {', '.join(LINKS)}")

    def peers(self) -> list[Peer]:
        """Whom DICOM objects are sent to.

        Raises:
            UsageError: a peer is named wrongly, or nothing would be sent.
        """
        if self.send_to and not self.objects:
            raise ServiceError("--send-to: nothing would be sent, with --dicom-objects none")
        if self.send_to and self.link != "patient":
            raise ServiceError(
                "--send-to: an archive cannot file objects of --dicom-link linked in the patient's study"
            )
        headers = dict(self.send_headers)
        return [peer_of(text, ae_title=self.ae_title, headers=headers) for text in dict.fromkeys(self.send_to)]

    def _check_node(self) -> None:
        for name in (self.ae_title, *(peer.partition("@")[0] for peer in self.allow_ae)):
            if _TITLE.fullmatch(name) is None:
                raise ServiceError(f"expected an AE title of 1 to 16 letters and digits, got {name[:64]!r}")
        if not self.quiet_s >= 0.1:
            raise ServiceError(f"--quiet-seconds: expected 0.1 or more, got {self.quiet_s:g}")
        if self.dicom_port is None:
            if self.allow_ae:
                raise ServiceError("--allow-ae: only together with --dicom-port")
            return
        if not 0 <= self.dicom_port <= 65535:
            raise ServiceError(f"--dicom-port: expected 0 to 65535, got {self.dicom_port}")
        if not self.allow_ae:
            raise ServiceError("--dicom-port: name who may send, with --allow-ae TITLE or TITLE@host for each")
