"""What simple measurements reach on the demo's task: the bar that a learned classifier has to leave behind."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from anymc3d.demo.dataset import LABEL
from anymc3d.evaluate.metrics import auroc
from anymc3d.files.tables import read_table
from anymc3d.settings.limits import require

RULES = (
    "lesion volume",
    "lesion mean intensity",
    "lesion intensity spread",
    "lesion brightest voxel",
    "scan mean intensity",
    "scan brightest voxel",
)
"""The lesion is the true mask, which no classifier is given: the rules have an advantage."""
TOGETHER = "all of these, logistic regression"


@dataclass(frozen=True, eq=False)
class Measurements:
    """The numbers of every case."""

    values: npt.NDArray[np.float64]
    """(cases, rules), in the order of ``RULES``."""
    targets: npt.NDArray[np.int64]
    is_test: npt.NDArray[np.bool_]


def simple_rules(manifest_path: Path) -> dict[str, float]:
    """Return rule -> AUROC on the test cases. Directions and weights come from train and val cases only.

    Raises:
        OSError: a file of the manifest cannot be read.
    """
    measured = measure(manifest_path)
    fit, test = ~measured.is_test, measured.is_test
    result = {}
    for name, value in zip(RULES, measured.values.T, strict=True):
        sign = 1.0 if _auroc(measured.targets[fit], value[fit]) >= 0.5 else -1.0
        result[name] = _auroc(measured.targets[test], sign * value[test])
    result[TOGETHER] = _auroc(measured.targets[test], _logistic(measured.values, measured.targets, fit)[test])
    return result


def measure(manifest_path: Path) -> Measurements:
    """Read every scan and mask once and measure them."""
    rows = read_table(manifest_path)
    values = [_measure_case(manifest_path.parent / row["image"], manifest_path.parent / row["mask"]) for row in rows]
    return Measurements(
        np.array(values),
        np.array([int(row[LABEL]) for row in rows]),
        np.array([row["split"] == "test" for row in rows]),
    )


def _measure_case(image_path: Path, mask_path: Path) -> tuple[float, ...]:
    """The values of ``RULES``; intensities relative to the scan's 90th percentile, because MR units are arbitrary."""
    import nibabel

    image = nibabel.load(image_path)
    scan = np.asarray(image.dataobj, dtype=np.float64)
    mask = np.asarray(nibabel.load(mask_path).dataobj) > 0
    scan = scan / np.percentile(scan, 90)
    volume = mask.sum() * abs(np.linalg.det(image.affine[:3, :3]))
    inside = scan[mask]
    return volume, inside.mean(), inside.std(), inside.max(), scan.mean(), scan.max()


def _logistic(
    values: npt.NDArray[np.float64], targets: npt.NDArray[np.int64], fit: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float64]:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return (
        make_pipeline(StandardScaler(), LogisticRegression()).fit(values[fit], targets[fit]).decision_function(values)
    )


def _auroc(targets: npt.NDArray[np.int64], scores: npt.NDArray[np.float64]) -> float:
    value = auroc(targets, scores).value
    require(value is not None, "simple rules: expected rings and solid lesions in the test split and outside it")
    return float(value)
