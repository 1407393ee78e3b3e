"""The head that the demo's patients are deformed copies of.

The MNI152 T1 template and its tissue maps, read from the installed nilearn package (they lie inside its wheel; nilearn
itself is not imported and nothing is fetched). Without nilearn, a procedural phantom; ``source`` says which.

Reference: Fonov et al., "Unbiased average age-appropriate atlases for pediatric studies", NeuroImage 2011
(ICBM 2009a nonlinear symmetric).
"""

from __future__ import annotations

import importlib.util
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from anymc3d.demo.fields import smooth_field

logger = logging.getLogger(__name__)

Float3D = npt.NDArray[np.float32]
Bool3D = npt.NDArray[np.bool_]

TEMPLATE_FILES = {
    name: f"mni_icbm152_{name}_tal_nlin_sym_09a_converted.nii.gz"  # as nilearn ships them
    for name in ("t1", "gm", "wm")
}
MARGIN_MM = 8
DARKEST_FLUID, BRIGHTEST_WHITE = 70.0, 250.0  # grey values of the template that become 0 and 1
LEAST_TISSUE = 0.7  # grey + white probability from which a voxel is a place for a lesion


@dataclass(frozen=True, eq=False)
class Anatomy:
    """One skull-stripped T1-weighted head with the masks that say where its brain and its tissue are."""

    voxels: Float3D
    """(X, Y, Z), 0 outside the brain, about 0.2 fluid, 0.6 grey and 0.9 white matter."""
    affine: npt.NDArray[np.float64]
    """(4, 4), voxel index to world millimetres, RAS."""
    brain: Bool3D
    """(X, Y, Z)."""
    tissue: Bool3D
    """(X, Y, Z), grey or white matter: where a lesion may sit."""
    source: str
    """Where it came from, for the report."""

    @property
    def centre(self) -> npt.NDArray[np.float64]:
        """(3,), world millimetres of the middle of the brain's bounding box."""
        inside = np.argwhere(self.brain)
        middle = (inside.min(0) + inside.max(0)) / 2
        return self.affine[:3, :3] @ middle + self.affine[:3, 3]


def load_anatomy() -> Anatomy:
    """Return the MNI152 template at 2 mm where nilearn is installed, otherwise the phantom (with a logged warning)."""
    folder = _template_folder()
    if folder is None:
        logger.warning("the template files of nilearn are not installed; the demo uses a procedural phantom instead")
        return phantom()
    return _read_template(folder)


def _template_folder() -> Path | None:
    spec = importlib.util.find_spec("nilearn")
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(spec.submodule_search_locations[0]) / "datasets" / "data"
    return folder if all((folder / name).is_file() for name in TEMPLATE_FILES.values()) else None


def _read_template(folder: Path) -> Anatomy:
    import nibabel

    images = {key: nibabel.load(folder / name) for key, name in TEMPLATE_FILES.items()}
    affine = np.asarray(images["t1"].affine, dtype=np.float64)  # 1 mm, RAS
    maps = {key: np.asarray(image.dataobj, dtype=np.float32) for key, image in images.items()}
    brain = maps["t1"] > DARKEST_FLUID / 2
    box = _bounding_box(brain, margin=MARGIN_MM)
    affine[:3, 3] += affine[:3, :3] @ [axis.start for axis in box] + 0.5 * affine[:3, :3].sum(1)
    affine[:3, :3] *= 2
    t1, grey, white = (_halve(maps[key][box]) for key in ("t1", "gm", "wm"))
    brain = _halve(brain[box].astype(np.float32)) > 0.5
    voxels = np.clip((t1 - DARKEST_FLUID) / (BRIGHTEST_WHITE - DARKEST_FLUID), 0.05, 1.1) * brain
    tissue = brain & (grey + white > LEAST_TISSUE * 255)
    return Anatomy(voxels.astype(np.float32), affine, brain, tissue, "MNI152 T1 template, as shipped by nilearn")


def _bounding_box(mask: Bool3D, *, margin: int) -> tuple[slice, ...]:
    inside = np.argwhere(mask)
    low = np.maximum(inside.min(0) - margin, 0)
    high = np.minimum(inside.max(0) + 1 + margin, mask.shape)
    high -= (high - low) % 2  # even, so that it can be halved
    return tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))


def _halve(voxels: Float3D) -> Float3D:
    """Mean of each 2 x 2 x 2 block."""
    x, y, z = (size // 2 for size in voxels.shape)
    return voxels.reshape(x, 2, y, 2, z, 2).mean((1, 3, 5))


def phantom(*, spacing_mm: float = 2.0) -> Anatomy:
    """Return a procedural head: an ellipsoid brain with a folded grey ribbon, ventricles and a midline.

    It is the same each time, and has the size and the grey values of the template, so everything after it is the same.
    """
    rng = np.random.default_rng(152)
    size_mm = np.array([160.0, 196.0, 164.0])
    shape = tuple(int(n) for n in np.round(size_mm / spacing_mm))
    affine = np.diag([spacing_mm] * 3 + [1.0])
    affine[:3, 3] = -(np.array(shape) - 1) / 2 * spacing_mm
    x, y, z = (
        (np.arange(n, dtype=np.float32) * spacing_mm + affine[i, 3]).reshape([-1 if i == j else 1 for j in range(3)])
        for i, n in enumerate(shape)
    )
    radius = np.sqrt((x / 68) ** 2 + (y / 87) ** 2 + (z / 72) ** 2) + 0.025 * smooth_field(shape, 5, rng)
    depth = 1 - radius
    brain = depth > 0
    folds = np.abs(smooth_field(shape, 20, rng))  # 0 along the bottoms of the sulci
    fluid = (folds < 0.16) & (depth < 0.16) | (np.abs(x) < 1.8) & (np.abs(z) > 24) & brain
    for side in (-1, 1):
        fluid |= ((x - side * 13) / 7) ** 2 + ((y + 5) / 34) ** 2 + ((z - 8) / 12) ** 2 < 1
    grey = (depth < 0.07) | (folds < 0.5) & (depth < 0.22)
    values = np.where(fluid, 0.2, np.where(grey, 0.62, 0.92)) + 0.02 * smooth_field(shape, 30, rng)
    tissue = brain & ~fluid
    voxels = np.clip(values, 0.05, 1.1) * brain
    return Anatomy(voxels.astype(np.float32), affine, brain, tissue, "procedural phantom (nilearn is not installed)")
