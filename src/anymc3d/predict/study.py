"""A study that no manifest names, as a case."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from anymc3d.data.case import Case, default_id
from anymc3d.errors import UsageError
from anymc3d.predict.scan_inputs import IN_MEMORY


def study_case(
    scan: str | Path | None,
    views: Mapping[str, str | Path] | None,
    *,
    case: str | None = None,
    spacing: tuple[float, float, float] | None = None,
    series: str | None = None,
    mask: str | Path | None = None,
    center: tuple[float, float, float] | None = None,
    covariates: Mapping[str, str] | None = None,
) -> Case:
    """A case that no manifest names: one scan, or several views of one study.

    ``series``, ``mask``, ``center``: as in the manifest's columns of that name; ``covariates``: column -> cell.

    Raises:
        UsageError: neither or both were given.
    """
    if (scan is None) == (not views):
        raise UsageError("expected one scan, or views of one study, and not both")
    images = {"image": str(scan)} if scan is not None else {f"image.{name}": str(path) for name, path in views.items()}
    name = case or default_id(next((path for path in images.values() if path != IN_MEMORY), IN_MEMORY))
    return Case(
        id=name,
        patient=name,
        images=images,
        masks={} if mask is None else {"mask": str(mask)},
        cells={**(covariates or {}), **({"series": series} if series else {})},
        split=None,
        fold=None,
        spacing=spacing,
        center=center,
        row=0,
    )
