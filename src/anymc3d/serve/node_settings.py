"""What a service does with DICOM: which objects it makes of an answer, and for whom."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from anymc3d.errors import UsageError, did_you_mean
from anymc3d.explain.dicom_objects import LINKS
from anymc3d.report.finding_codes import FindingCode

OBJECTS: Mapping[str, str] = {
    "sr": ".sr.dcm",
    "seg": ".seg.dcm",
    "map": ".map.dcm",
    "capture": ".sc.dcm",
}
"""Kind of DICOM object -> how its file's name ends. A map has four bytes for every voxel of the scan."""
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

    def __post_init__(self) -> None:
        for name in self.objects:
            if name not in OBJECTS:
                hint = did_you_mean(name, OBJECTS)
                raise UsageError(f"--dicom-objects: unknown {name!r}{hint}; have {', '.join(OBJECTS)}")
        if self.link not in LINKS:
            hint = did_you_mean(self.link, LINKS)
            raise UsageError(f"--dicom-link: unknown {self.link!r}{hint}; have {', '.join(LINKS)}")
