"""The first network's pancreas as the masks of a manifest: a classifier then crops by it, as the paper does for T5.

The data set's own masks are drawn by people or by another network, not alike over the labels, and know the lesion: a
box of them may show the answer.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anymc3d.data.case import DRAWN_BY_NETWORK, MASK_SOURCE, Case
from anymc3d.data.manifest import Manifest, write_manifest
from anymc3d.data.scan_grid import resample
from anymc3d.data.volume import Affine, Volume
from anymc3d.explain.folder import file_name
from anymc3d.files.containment import inside
from anymc3d.pandx.geometry import PANCREAS

FOLDER = ("low", "masks")


def mask_path(out: Path, case: Case) -> Path:
    """The mask of the pancreas of one case, on the grid of its scan."""
    return inside(out, *FOLDER, f"{file_name(case.id)}.nii.gz")


def mask_on_scan(labels: NDArray[np.int32], affine: Affine, scan: Volume) -> NDArray[np.uint8]:
    """(X, Y, Z), 0 and 1: what the first network drew on a grid of its own, on the grid of the scan."""
    return resample((labels == PANCREAS).astype(np.uint8), affine, scan.shape, scan.affine, order="nearest")


def write_crop_manifest(manifest: Manifest, out: Path) -> Path | None:
    """``OUT/low/manifest.csv``: the cases whose pancreas was looked for, their masks replaced; None: there are none."""
    cases = [case for case in manifest.cases if mask_path(out, case).is_file()]
    if not cases:
        return None
    path = out / "low" / "manifest.csv"
    masks = [f"{FOLDER[-1]}/{mask_path(out, case).name}" for case in cases]
    extra = {"mask": masks, MASK_SOURCE: [DRAWN_BY_NETWORK] * len(cases)}
    looked_for = {"mask_classes": [str(PANCREAS)] * len(cases)} if "mask_classes" in manifest.columns else {}
    write_manifest(path, manifest, extra | looked_for, cases=cases)
    return path
