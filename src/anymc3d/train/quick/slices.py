"""How many slices ``--quick`` looks at: the work of the backbone is limited by the task, never by the machine.

So the same task gives the same features, and the same plugin, everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from anymc3d.settings.config import TaskSettings
from anymc3d.settings.views import ViewSettings

WORK = 2e13
"""Multiplications and additions of the backbone over all cases: some five minutes on one core of a usual processor."""
LEAST = 2
"""Slices per view that are kept whatever the work."""
ALL = 2**31 - 1
"""As ``wanted``: every slice of the task."""

_UNKNOWN = 128
"""Slices a scan is taken to have where the task file does not say."""


@dataclass(frozen=True)
class SliceLimit:
    """The views as they are used, and one sentence for each view that was thinned out."""

    views: Mapping[str, ViewSettings]
    notes: tuple[str, ...]


def limit_slices(
    task: TaskSettings, *, num_cases: int, patch_size: int, num_parameters: int, wanted: int | None = None
) -> SliceLimit:
    """Thin out the slices of every view to ``wanted``, or to what keeps the work within ``WORK``.

    A view whose slice count is null (each scan its own) is left alone only where 128 slices a scan would fit.
    Slices are not dropped: the same extent is resampled to fewer, thicker ones.
    """
    costs = {
        name: 2.0 * num_parameters * (-(-view.size[0] // patch_size)) * (-(-view.size[1] // patch_size))
        for name, view in task.views.items()
    }
    counts = {name: view.size[2] or _UNKNOWN for name, view in task.views.items()}
    limit = wanted or _fitting(costs, counts, num_cases)
    views, notes = {}, []
    for name, view in task.views.items():
        if counts[name] <= limit:
            views[name] = view
            continue
        views[name] = replace(view, size=(*view.size[:2], limit))
        before = "as many slices as the scan has" if view.size[2] is None else f"{view.size[2]} slices"
        notes.append(f"view {name}: {limit} {'slice' if limit == 1 else 'slices'} instead of {before}")
    return SliceLimit(views, tuple(notes))


def _fitting(costs: Mapping[str, float], counts: Mapping[str, int], num_cases: int) -> int:
    limit = max(counts.values())
    while limit > LEAST and num_cases * sum(cost * min(counts[name], limit) for name, cost in costs.items()) > WORK:
        limit -= 1
    return limit
