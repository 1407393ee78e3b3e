"""The demo's data set: planted lesions whose labels, masks and places are known because they were made.

Cases come in pairs that share one lesion (size, shape, grey-value curve) and one scanner; one of each pair is a ring,
the other solid, in two different heads. So no number of a lesion's histogram gives the label away, in any split.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import logging
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from anymc3d.cost.progress import Progress
from anymc3d.demo.anatomy import Anatomy, load_anatomy
from anymc3d.demo.lesions import draw_lesion, plant
from anymc3d.demo.patient import SITES, Site, acquire, make_head
from anymc3d.files import atomic, folders, tables
from anymc3d.settings.limits import require
from anymc3d.settings.views import ViewSettings
from anymc3d.types import Split

logger = logging.getLogger(__name__)

FORMAT_VERSION = 1
LABEL = "ring"
MANIFEST_NAME = "manifest.csv"
RECORD_NAME = "dataset.json"
"""What was asked for; written first."""
FILES_NAME = "files.json"
"""Every file's sha256; written last, so it says that the data set is whole."""
COLUMNS = ("case", "patient", "image", "mask", "split", LABEL, "sex", "site", "age")


@dataclass(frozen=True, kw_only=True)
class DatasetSettings:
    """What decides every byte of the data set, together with the anatomy."""

    num_train: int
    num_val: int
    num_test: int
    spacing_mm: float
    seed: int

    def __post_init__(self) -> None:
        for name in ("num_train", "num_val", "num_test"):
            count = getattr(self, name)
            require(count >= 2 and count % 2 == 0, f"{name}: expected an even number from 2 (pairs), got {count}")
        require(1 <= self.spacing_mm <= 6, f"spacing_mm: expected 1 to 6 mm, got {self.spacing_mm}")
        require(self.seed >= 0, f"seed: expected 0 or more, got {self.seed}")


@dataclass(frozen=True, kw_only=True)
class PlannedCase:
    """One row of the manifest and what it takes to make its files."""

    number: int
    pair: int
    split: Split
    ring: bool
    sex: str
    age: int
    site: Site

    @property
    def row(self) -> dict[str, str]:
        """The manifest row. Neither the id nor a file name gives the label away."""
        name = f"case{self.number:03d}"
        values = (name, f"patient{self.number:03d}", f"images/{name}.nii.gz", f"masks/{name}.nii.gz", self.split)
        values += (str(int(self.ring)), self.sex, self.site.name, str(self.age))
        return dict(zip(COLUMNS, values, strict=True))


def make_dataset(
    folder: Path,
    *,
    num_train: int = 160,
    num_val: int = 40,
    num_test: int = 60,
    spacing_mm: float = 2.5,
    seed: int = 0,
    show_progress: bool = False,
) -> Path:
    """Make the data set in ``folder`` and return its ``manifest.csv``; a finished one is checked by hash and reused.

    The same settings and anatomy give the same bytes. About 25 s for the default 260 cases on two cores.

    Args:
        folder: created if needed; may be empty, or an unfinished or finished data set of the same settings.
        num_train, num_val, num_test: cases, even: half of each are rings.
        spacing_mm: voxel size; some sites are up to 1.3 times coarser along one axis.
        seed: of every draw.
        show_progress: a progress bar on stderr.

    Raises:
        RunFolderError: ``folder`` holds something else or a data set of other settings, or is in use.
        UsageError: a setting is out of range.
    """
    settings = DatasetSettings(
        num_train=num_train, num_val=num_val, num_test=num_test, spacing_mm=spacing_mm, seed=seed
    )
    anatomy = load_anatomy()
    identity = {"format_version": FORMAT_VERSION, "anatomy": anatomy.source, "settings": asdict(settings)}
    with folders.locked(folder):
        folders.claim(folder / RECORD_NAME, identity, "the demo's data set")
        if not _is_complete(folder):
            cases = tuple(plan_cases(settings))
            digests = _write_cases(folder, cases, anatomy, settings, show_progress=show_progress)
            tables.write_table(folder / MANIFEST_NAME, COLUMNS, [case.row for case in cases])
            digests[MANIFEST_NAME] = _digest((folder / MANIFEST_NAME).read_bytes())
            atomic.write_json(folder / FILES_NAME, digests)
    return folder / MANIFEST_NAME


def plan_cases(settings: DatasetSettings) -> Iterator[PlannedCase]:
    """Yield the cases in order: each split's pairs, each pair's ring and solid in a random order."""
    rng = np.random.default_rng([settings.seed, 0])
    number = 0
    counts: tuple[tuple[Split, int], ...] = (
        ("train", settings.num_train),
        ("val", settings.num_val),
        ("test", settings.num_test),
    )
    for split, count in counts:
        for pair_of_split in range(count // 2):
            first_is_ring = bool(rng.integers(2))
            for ring in (first_is_ring, not first_is_ring):
                sex, age = ("F", "M")[rng.integers(2)], int(np.clip(rng.normal(58, 14), 18, 89))
                site = SITES[pair_of_split % len(SITES)]
                pair = number // 2
                number += 1
                yield PlannedCase(number=number, pair=pair, split=split, ring=ring, sex=sex, age=age, site=site)


def make_case(
    anatomy: Anatomy, case: PlannedCase, settings: DatasetSettings
) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.bool_], npt.NDArray[np.float64]]:
    """Return one case's scan and mask (X, Y, Z), and their affine; RAS."""
    lesion = draw_lesion(np.random.default_rng([settings.seed, 1, case.pair]))
    rng = np.random.default_rng([settings.seed, 2, case.number])
    step_x, step_y, step_z = (settings.spacing_mm * factor for factor in case.site.spacing)
    head = make_head(anatomy, rng, spacing=(step_x, step_y, step_z))
    head, mask = plant(head, lesion, rng, ring=case.ring)
    return acquire(head, rng, gain=case.site.gain), mask, head.affine


def demo_views() -> dict[str, ViewSettings]:
    """Three planes of the one scan: five slices each of the middle of the head, 98 pixels of 1.1 mm.

    A lesion is about two patches wide; thick slices, because resizing averages what lies between them.
    """
    size = (98, 98, 5)
    return {
        "axial": ViewSettings(size=size, plane="axial", field_of_view=(112, 112, 100)),
        "coronal": ViewSettings(size=size, plane="coronal", field_of_view=(112, 112, 112)),
        "sagittal": ViewSettings(size=size, plane="sagittal", field_of_view=(112, 112, 100)),
    }


def _write_cases(
    folder: Path, cases: tuple[PlannedCase, ...], anatomy: Anatomy, settings: DatasetSettings, *, show_progress: bool
) -> dict[str, str]:
    """Write all images and masks on the processor's cores; return relative path -> sha256."""

    workers = min(4, len(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else 2
    pool = ThreadPoolExecutor(workers)
    try:
        job = partial(_write_case, folder, anatomy=anatomy, settings=settings)
        written = Progress(
            pool.map(job, cases), total=len(cases), what="planting lesions", unit="case", quiet=not show_progress
        )
        return {name: digest for of_case in written for name, digest in of_case.items()}
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _write_case(folder: Path, case: PlannedCase, *, anatomy: Anatomy, settings: DatasetSettings) -> dict[str, str]:
    scan, mask, affine = make_case(anatomy, case, settings)
    digests = {}
    for column, voxels in (("image", scan), ("mask", mask.astype(np.uint8))):
        content = nifti_bytes(voxels, affine, orientation=case.site.orientation)
        name = case.row[column]
        atomic.write_bytes(folder / name, content)
        digests[name] = _digest(content)
    return digests


def nifti_bytes(voxels: npt.NDArray[Any], affine: npt.NDArray[np.float64], *, orientation: str) -> bytes:
    """Return a ``.nii.gz`` of an RAS array stored in another axis order; the same input gives the same bytes."""
    import nibabel
    from nibabel import orientations

    image = nibabel.Nifti1Image(voxels, affine)
    turn = orientations.ornt_transform(orientations.axcodes2ornt("RAS"), orientations.axcodes2ornt(tuple(orientation)))
    image = image.as_reoriented(turn)
    image.header.set_xyzt_units("mm")
    image.set_sform(image.affine, code="scanner")
    image.set_qform(image.affine, code="scanner")
    return gzip.compress(image.to_bytes(), compresslevel=1, mtime=0)


def _is_complete(folder: Path) -> bool:
    """Whether every file that was recorded at the end is there and unchanged."""
    record_path = folder / FILES_NAME
    if not record_path.is_file():
        return False
    try:
        digests = dict(json.loads(record_path.read_text(encoding="utf-8")))
    except (ValueError, TypeError):
        logger.warning("%s is damaged; making the data again", record_path)
        return False
    changed = [name for name, digest in digests.items() if not _has_digest(folder / name, digest)]
    if changed:
        logger.warning("%s: %d files are missing or changed; making the data again", folder, len(changed))
    return not changed


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _has_digest(path: Path, digest: str) -> bool:
    return path.is_file() and _digest(path.read_bytes()) == digest
