"""The cells of a case that hold its covariates: those of its manifest, and measures of its own scans."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from anymc3d.data.case_scans import CaseScans
from anymc3d.data.covariates import MEASURE
from anymc3d.data.measures.case import GROUPS, MeasureRequest, as_numbers, measure_case
from anymc3d.errors import CovariatesError
from anymc3d.types import Modality

Measure = Callable[[CaseScans, MeasureRequest], Mapping[str, float]]


def covariate_cells(
    names: Sequence[str], scans: CaseScans, modality: Modality, *, measure: Measure = measure_case
) -> dict[str, str]:
    """Name of a covariate -> cell; measures in the form of :func:`anymc3d.data.measures.case.as_numbers`.

    Raises:
        ScanError: a scan cannot be measured.
    """
    measures = [name.removeprefix(MEASURE) for name in names if name.startswith(MEASURE)]
    if not measures:
        return dict(scans.case.cells)
    measures_of_case = measure(scans, wanted_of(measures, modality))
    numbers = as_numbers(measures_of_case, measures)
    by_name = {f"{MEASURE}{name}": value for name, value in zip(measures, numbers, strict=True)}
    return {**scans.case.cells, **{name: "" if math.isnan(value) else repr(value) for name, value in by_name.items()}}


def wanted_of(measures: Sequence[str], modality: Modality) -> MeasureRequest:
    """What has to be measured for some measures, by their names.

    Raises:
        UsageError: a name is not ``<image column>/<what>/<measure>``.
    """
    columns: dict[str, None] = {}
    groups: dict[str, None] = {}
    structures: set[int] = set()
    for name in measures:
        column, what, _ = _parts(name)
        columns |= dict.fromkeys(column.split(":"))
        labels = [part for part in what.split(":") if part.isdecimal()]
        groups |= dict.fromkeys(("size", "structure") if labels else (what,))
        structures |= {int(label) for label in labels}
    return MeasureRequest(
        columns=tuple(columns), groups=tuple(groups), structures=tuple(sorted(structures)), modality=modality
    )


def _parts(name: str) -> tuple[str, str, str]:
    parts = name.rsplit("/", 2)
    if len(parts) != 3 or not all(parts):
        raise CovariatesError(
            f"covariates: {MEASURE}{name}: expected {MEASURE}<image column>/<what>/<measure>, such as "
            f"{MEASURE}image/1/volume_ml or {MEASURE}image/scan/extent_x_mm"
        )
    column, what, measure = parts
    labels = what.split(":")
    if not all(part.isdecimal() for part in labels) and what not in ("scan", "foreground"):
        raise CovariatesError(
            f"covariates: {MEASURE}{name}: {what} is not a structure's label, scan or foreground ({', '.join(GROUPS)})"
        )
    return column, what, measure
