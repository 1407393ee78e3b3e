"""nnU-Net v2 as the program it is, in an environment of its own; nothing of it is imported.

Either it is run here, or its commands are printed and its results read when they are there.
"""

from __future__ import annotations

import shlex
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anymc3d.data.mask_grid import read_labels
from anymc3d.data.readers import read_header, read_volume
from anymc3d.data.volume import Affine
from anymc3d.errors import ScanError, UsageError
from anymc3d.segmenters.program import ProgramWords, run_program

WORDS = ProgramWords("nnU-Net", "give the path of nnUNetv2_predict with --program", "raise --timeout-hours")
PROGRAM = "nnUNetv2_predict"
FOLDS = ("0", "1", "2", "3", "4")
ABOVE_ONE = 1e-3
"""By which a probability in half precision may lie beyond 1."""


@dataclass(frozen=True, kw_only=True)
class Model:
    """Which trained network nnU-Net takes: what its ``-d``, ``-tr``, ``-p`` and ``-c`` say."""

    dataset: str
    trainer: str = "nnUNetTrainer"
    plans: str = "nnUNetPlans"
    configuration: str = "3d_fullres"

    @staticmethod
    def of(text: str) -> Model:
        """``DATASET[:TRAINER[:PLANS]]``.

        Raises:
            UsageError: it is something else.
        """
        parts = text.split(":")
        if not 1 <= len(parts) <= 3 or not all(parts):
            raise UsageError(f"expected a model of nnU-Net as DATASET[:TRAINER[:PLANS]], got {text!r}")
        return Model(**dict(zip(("dataset", "trainer", "plans"), parts, strict=False)))

    def command(self, program: str, images: Path, results: Path, *, probabilities: bool) -> list[str]:
        """The words of ``nnUNetv2_predict``: all five folds, mirroring on."""
        words = [program, "-i", str(images), "-o", str(results), "-d", self.dataset, "-c", self.configuration]
        words += ["-tr", self.trainer, "-p", self.plans, "-f", *FOLDS]
        return [*words, "--save_probabilities"] if probabilities else words


def run_model(command: list[str], timeout_s: float) -> None:
    """Run nnU-Net.

    Raises:
        UsageError: it cannot start, fails, or takes too long.
    """
    try:
        run_program(command, timeout_s, WORDS)
    except ScanError as error:
        raise UsageError(f"{error.what}; the command was: {shlex.join(command)}") from error


def read_mask(path: Path) -> tuple[NDArray[np.int32], Affine]:
    """A segmentation of nnU-Net as it is stored, and its affine.

    Raises:
        ScanError: it cannot be read.
    """
    return read_labels(str(path)), read_header(path).affine


def find_map(folder: Path, name: str) -> Path | None:
    """The probabilities of one case: ``NAME.npz`` as nnU-Net writes them, else ``NAME.nii.gz``; None if neither."""
    return next((path for path in (folder / f"{name}.npz", folder / f"{name}.nii.gz") if path.is_file()), None)


def read_probability(path: Path, channel: int) -> tuple[NDArray[np.float32], Affine]:
    """The map of one class (I, J, K) from 0 to 1, and its affine.

    Args:
        path: nnU-Net's ``.npz`` (classes, K, J, I) with its segmentation beside it, which has the affine; or a
            ``.nii.gz`` that is the map itself.
        channel: which class of the ``.npz``.

    Raises:
        ScanError: it cannot be read, or is a segmentation.
    """
    if path.suffix == ".npz":
        values, affine = _from_npz(path, channel), read_header(path.with_suffix(".nii.gz")).affine
    else:
        volume = read_volume(path)
        values, affine = volume.voxels, volume.affine
        if float(values.max()) >= 1 and not (values % 1).any():
            what = f"{path.name}: expected probabilities, got a segmentation"
            raise ScanError(f"{what}; run nnU-Net with --save_probabilities")
    if not (values.min() >= -ABOVE_ONE and values.max() <= 1 + ABOVE_ONE):
        what = f"{path.name}: expected probabilities from 0 to 1, got {values.min():g} to {values.max():g}"
        raise ScanError(f"{what}; give the map of nnU-Net's softmax")
    return np.clip(values, 0.0, 1.0, dtype=np.float32), affine


def _from_npz(path: Path, channel: int) -> NDArray[np.float32]:
    segmentation = path.with_suffix(".nii.gz")
    if not segmentation.is_file():
        raise ScanError(
            f"{path.name}: expected nnU-Net's segmentation {segmentation.name} beside it, which has its geometry"
        )
    try:
        with np.load(path, allow_pickle=False) as archive:
            probabilities: NDArray[Any] = archive["probabilities"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        what = f"{path.name}: expected nnU-Net's array 'probabilities' ({type(error).__name__})"
        raise ScanError(f"{what}; run nnU-Net with --save_probabilities again") from error
    shape = read_header(segmentation).shape
    if (
        probabilities.ndim != 4
        or probabilities.shape[1:] != shape[::-1]
        or probabilities.dtype.kind != "f"
        or channel >= len(probabilities)
    ):
        what = f"{path.name}: expected (classes, {', '.join(map(str, shape[::-1]))}) with class {channel}"
        raise ScanError(f"{what}, got {probabilities.shape} {probabilities.dtype}; run nnU-Net on this scan again")
    return probabilities[channel].transpose(2, 1, 0).astype(np.float32)
