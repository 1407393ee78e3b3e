"""What a command will ask of the scans of a case, so that another process can find it beforehand."""

from __future__ import annotations

from dataclasses import dataclass

from anymc3d.settings.views import ViewSettings


@dataclass(frozen=True, kw_only=True)
class Needs:
    """``views``: whose slices, facts of scans and hashes; the rest on top of that, of the scans of these views.

    What is not named here is computed by the process that needs it.
    """

    views: tuple[ViewSettings, ...]
    slices: bool = True
    """False: hashes alone, as of a case that is probably done."""
    masks: bool = False
    """Also the segmentation of each view, cut like its slices."""
    volumes: bool = False
    """Also the decoded scans themselves."""
