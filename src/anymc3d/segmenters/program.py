"""TotalSegmentator as the program it is, in an environment of its own; nothing of it is imported.

The scan goes in as a NIfTI without a name in a private folder that is removed afterwards; one file per organ comes
out. Command line: that of TotalSegmentator 2, ``-i IN -o OUT --roi_subset ORGAN… [--fast]``.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import nibabel
import numpy as np
from numpy.typing import NDArray

from anymc3d.data.totalsegmentator import read_organs
from anymc3d.data.volume import Volume
from anymc3d.errors import ScanError

_VERSION_TIMEOUT_S = 120
_TAIL = 400


def find_program(program: str) -> str | None:
    """The path of a program given by path or by name, or None."""
    return shutil.which(os.path.expanduser(program))


@dataclass(frozen=True)
class ProgramSegmenter:
    """A :class:`anymc3d.data.segmentation.Segmenter` that calls TotalSegmentator."""

    program: str
    organs: tuple[str, ...]
    fast: bool
    timeout_s: int

    @cached_property
    def identity(self) -> str:
        """Sha256 (hex) over the program's own version, organs and model."""
        try:
            version = run_program([self.program, "--version"], _VERSION_TIMEOUT_S, TOTALSEGMENTATOR).strip()
        except ScanError:
            version = "unknown"  # releases before 2.0.5 do not say
        facts = {"totalsegmentator": version, "organs": self.organs, "fast": self.fast}
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def labels(self, scan: Volume, scan_hash: str) -> NDArray[np.int32]:
        """Labels of ``total`` (X, Y, Z) on the voxels of a scan in RAS order.

        Raises:
            ScanError: the program fails, takes longer than the limit, or leaves no segmentation on the scan's grid.
        """
        with tempfile.TemporaryDirectory(prefix="anymc3d-") as folder:
            scan_path, made = Path(folder) / "scan.nii.gz", Path(folder) / "organs"
            nibabel.save(nibabel.Nifti1Image(scan.voxels, scan.affine), scan_path)
            command = [self.program, "-i", str(scan_path), "-o", str(made), "--roi_subset", *self.organs]
            run_program([*command, "--fast"] if self.fast else command, self.timeout_s, TOTALSEGMENTATOR)
            if not made.is_dir():
                raise ScanError("TotalSegmentator ended well, but left no folder of organs; run it by hand to see why")
            try:
                return read_organs(str(made), self.organs, scan)
            except ScanError as error:
                raise ScanError(f"TotalSegmentator ended well, but: {error.what}", code=error.code) from error


@dataclass(frozen=True)
class ProgramWords:
    """What messages call a program, and what they advise when it does not start or is too slow."""

    name: str
    not_started: str
    too_slow: str


TOTALSEGMENTATOR = ProgramWords("TotalSegmentator", "check roi.program", "raise roi.timeout_s, or set roi.fast: true")


def _kill(process: subprocess.Popen[str]) -> None:
    """End a program and its children; one that has just ended by itself is no fault."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def run_program(command: Sequence[str], timeout_s: float, words: ProgramWords) -> str:
    """Run a program to its end and return what it printed; its children end with it.

    Raises:
        ScanError: it cannot start, fails, or takes too long.
    """
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        raise ScanError(f"{words.name} cannot be started ({error.strerror}); {words.not_started}") from error
    with process:
        try:
            out, err = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            _kill(process)
            process.communicate()
            raise ScanError(f"{words.name} took more than {timeout_s:g} s; {words.too_slow}") from None
        except BaseException:
            _kill(process)
            raise
    if process.returncode != 0:
        tail = " ".join((err or out).split())[-_TAIL:] or "it printed nothing"
        raise ScanError(f"{words.name} ended with exit code {process.returncode}: {tail}")
    return out
