"""The work a view asks for of one scan, estimated before it starts.

Sizes, fields of view and regions come from task files and plugins. A mistake in one of them, or a stranger's plugin,
must end as one line and not in hours or gigabytes. The limits are far above any real task: the largest of the paper's,
T11, asks for 480 x 480 x 240 pixels, 55 million.
"""

from __future__ import annotations

import math

from anymc3d.data.volume import Box
from anymc3d.errors import ViewError
from anymc3d.settings.views import MAX_PIXELS

PADDED_VOXELS = 2**27
"""What padding may always make of a scan, half a gigabyte; a larger scan may be doubled."""
PADDED_SIDE = 8192
"""Voxels along one axis, where the scan has fewer."""
FREE_PIXELS = 2**24
"""Pixels that any scan may be enlarged to: a small scan, such as a cube of 28 voxels, is enlarged many times."""
ENLARGED = 64
"""Pixels made of one voxel on average, beyond ``FREE_PIXELS``."""


def check_work(scan: tuple[int, int, int], box: Box, size: tuple[int, int, int], channels: int) -> None:
    """Refuse a view that would cost far more than its scan can hold.

    Args:
        scan: voxels of the scan, in the order of ``box``.
        box: what the view shows, with what is padded.
        size: pixels of the view along the same axes.
        channels: of each pixel.

    Raises:
        ScanError: with both numbers and what to change.
    """
    padded, pixels = math.prod(box.count), math.prod(size)
    if padded > max(PADDED_VOXELS, 2 * math.prod(scan)) or any(
        count > max(PADDED_SIDE, have) for count, have in zip(box.count, scan, strict=True)
    ):
        raise ViewError(
            f"the view would pad a scan of {_by(scan)} voxels to {_by(box.count)}; make field_of_view or the region "
            "smaller"
        )
    if pixels * channels > MAX_PIXELS:
        raise ViewError(f"the view asks for {_by(size)} pixels in {channels} channels, at most {MAX_PIXELS} in all")
    if pixels > max(FREE_PIXELS, ENLARGED * padded):
        raise ViewError(
            f"the view would enlarge {_by(box.count)} voxels to {_by(size)} pixels, more than {ENLARGED} times; make "
            "size smaller"
        )


def _by(counts: tuple[int, int, int]) -> str:
    return " x ".join(map(str, counts))
