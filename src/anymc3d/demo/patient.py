"""One patient of the demo: a deformed copy of the anatomy, seen by its own scanner.

None of the draws knows the label, so nothing outside the lesion can give it away.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from anymc3d.demo.anatomy import Anatomy, Bool3D, Float3D
from anymc3d.demo.fields import smooth_field

EXTENT_MM = (160.0, 192.0, 160.0)
"""What every scan covers, about the middle of the brain."""
WARP_MM = 2.5
"""Standard deviation of the elastic displacement."""
WARP_CELLS = 5
BIAS_CELLS = 2


@dataclass(frozen=True, kw_only=True)
class Site:
    """A scanner: how it stores a scan and how it looks. Labels, sexes and ages are the same mix at each."""

    name: str
    spacing: tuple[float, float, float]
    """Millimetres along right-left, posterior-anterior, inferior-superior, as a factor of the data set's spacing."""
    orientation: str
    """The axis codes of the stored array."""
    gain: float
    """Stored units of white matter, roughly: MR units are arbitrary."""


SITES = (
    Site(name="north", spacing=(1.0, 1.0, 1.0), orientation="RAS", gain=700.0),
    Site(name="south", spacing=(1.0, 1.0, 1.3), orientation="LPS", gain=1500.0),
    Site(name="harbour", spacing=(1.2, 1.0, 1.0), orientation="PSR", gain=320.0),
)


@dataclass(frozen=True, eq=False, kw_only=True)
class Head:
    """A patient's noise-free scan on its own grid, RAS, before and after the lesion is planted."""

    voxels: Float3D
    """(X, Y, Z), in the anatomy's units: about 0.2 fluid, 0.6 grey, 0.9 white."""
    affine: npt.NDArray[np.float64]
    brain: Bool3D
    tissue: Bool3D

    @property
    def spacing(self) -> npt.NDArray[np.float64]:
        """(3,) millimetres."""
        return np.sqrt((self.affine[:3, :3] ** 2).sum(0))


@dataclass(frozen=True, kw_only=True)
class Pose:
    """How a patient's head differs from the anatomy, apart from the elastic part."""

    angles_deg: tuple[float, float, float]
    scales: tuple[float, float, float]
    shift_mm: tuple[float, float, float]


def draw_pose(rng: np.random.Generator) -> Pose:
    """Draw rotations (sd 4 degrees), sizes (0.93 to 1.05) and a shift (sd 2 mm)."""
    angles, shift = rng.normal(0, 4, 3), rng.normal(0, 2, 3)
    return Pose(
        angles_deg=tuple(angles.tolist()),
        scales=tuple(rng.uniform(0.93, 1.05, 3).tolist()),
        shift_mm=tuple(shift.tolist()),
    )


def make_head(anatomy: Anatomy, rng: np.random.Generator, *, spacing: tuple[float, float, float]) -> Head:
    """Deform ``anatomy`` (affine, then elastic) onto a grid of ``spacing`` millimetres that covers ``EXTENT_MM``."""
    from scipy import ndimage

    shape = tuple(max(8, round(extent / step)) for extent, step in zip(EXTENT_MM, spacing, strict=True))
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = anatomy.centre - (np.array(shape) - 1) / 2 * spacing
    pose = draw_pose(rng)
    rotation = rotation_matrix(pose.angles_deg) / np.array(pose.scales)
    to_voxel = np.linalg.inv(anatomy.affine)
    points = np.indices(shape, dtype=np.float32).reshape(3, -1) * np.array(spacing, np.float32)[:, None]
    points += (affine[:3, 3] - anatomy.centre)[:, None].astype(np.float32)
    world = rotation.astype(np.float32) @ points + (anatomy.centre + pose.shift_mm)[:, None].astype(np.float32)
    world += WARP_MM * np.stack([smooth_field(shape, WARP_CELLS, rng).ravel() for _ in range(3)])
    index = (to_voxel[:3, :3].astype(np.float32) @ world + to_voxel[:3, 3:].astype(np.float32)).reshape(3, *shape)

    def sample(voxels: npt.NDArray[np.generic]) -> Float3D:
        return ndimage.map_coordinates(voxels.astype(np.float32), index, order=1, output=np.float32)

    brain = sample(anatomy.brain) > 0.5
    return Head(
        voxels=sample(anatomy.voxels) * brain,
        affine=affine,
        brain=brain,
        tissue=brain & (sample(anatomy.tissue) > 0.5),
    )


def rotation_matrix(angles_deg: tuple[float, float, float]) -> npt.NDArray[np.float64]:
    """(3, 3): rotations about x, then y, then z."""
    matrix = np.eye(3)
    for axis, angle in enumerate(np.deg2rad(angles_deg)):
        i, j = [k for k in range(3) if k != axis]
        turn = np.eye(3)
        turn[[i, j], [i, j]] = np.cos(angle)
        turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
        matrix = turn @ matrix
    return matrix


def acquire(head: Head, rng: np.random.Generator, *, gain: float) -> npt.NDArray[np.int16]:
    """Return the scan as stored: contrast (gamma), coil bias (smooth, sd 8 %), Rician noise, arbitrary units, int16."""
    values = np.maximum(head.voxels, 0) ** rng.uniform(0.85, 1.2)
    values = values * np.exp(0.08 * smooth_field(values.shape, BIAS_CELLS, rng))
    noise = rng.uniform(0.015, 0.03) * rng.standard_normal((2, *values.shape), dtype=np.float32)
    values = np.hypot(values + noise[0], noise[1])
    return np.round(gain * rng.uniform(0.8, 1.25) * values).astype(np.int16)
