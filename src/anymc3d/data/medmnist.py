"""A MedMNIST 3D file (``<name>_64.npz``) as a manifest: one case per volume, splits as published.

Members are ``{train,val,test}_images`` (N, X, Y, Z) and ``{train,val,test}_labels`` (N, L). Only the labels and the
headers of the images are read here.
"""

from __future__ import annotations

import zipfile
import zlib
from collections import Counter
from pathlib import Path
from typing import IO

import numpy as np

from anymc3d.data.case import SPLITS, Case
from anymc3d.data.formats.raw_voxels import is_colour_picture

_MAX_LABEL_BYTES = 64 * 2**20
_EXPECTED = "expected a MedMNIST 3D file with train_images, train_labels and the same for val and test"


def inspect_npz(path: Path) -> tuple[tuple[str, ...], tuple[Case, ...], list[str]]:
    """Return the columns, the cases and the faults of a MedMNIST file.

    The label column is ``label``; labels more than one wide are ``label_0``, ``label_1`` and so on.
    """
    if not path.is_file():
        return (), (), [f"{path}: no such file"]
    try:
        with zipfile.ZipFile(path) as archive:
            return _inspect(archive, path)
    except (zipfile.BadZipFile, zlib.error, ValueError, OSError, EOFError, RuntimeError) as error:
        return (), (), [f"{path}: not readable as .npz ({error})"]


def _inspect(archive: zipfile.ZipFile, path: Path) -> tuple[tuple[str, ...], tuple[Case, ...], list[str]]:
    names = Counter(member.filename for member in archive.infolist())
    expected = {f"{split}_{part}.npy" for split in SPLITS for part in ("images", "labels")}
    problems = [f"{name}: stands {count} times in the archive" for name, count in names.items() if count > 1]
    if set(names) != expected or problems:
        keys = sorted(name.removesuffix(".npy") for name in names)
        return (), (), [*problems, f"{_EXPECTED}, got the keys {keys}"]
    labels: dict[str, np.ndarray] = {}
    for split in SPLITS:
        shape, dtype = _image_header(archive, f"{split}_images.npy")
        labels[split] = _read_labels(archive, f"{split}_labels.npy")
        if len(shape) != 4:
            problems.append(f"{split}_images: expected volumes (N, X, Y, Z), got shape {shape}; 2D sets are not scans")
        elif is_colour_picture(shape[1:], dtype):
            what = f"expected volumes (N, X, Y, Z), got {shape}: colour pictures; 2D sets are not scans"
            problems.append(f"{split}_images: {what}")
        if len(shape) and shape[0] != len(labels[split]):
            problems.append(f"{split}: {shape[0]} volumes but {len(labels[split])} labels")
    widths = {values.shape[1] for values in labels.values()}
    if len(widths) > 1:
        problems.append(f"labels are of different widths: {sorted(widths)}")
    if problems:
        return (), (), problems
    columns = ["label"] if widths == {1} else [f"label_{index}" for index in range(widths.pop())]
    cases = []
    for split in SPLITS:
        for index, values in enumerate(labels[split]):
            cells = {column: str(int(value)) for column, value in zip(columns, values, strict=True)}
            cases.append(_case(path, split, index, cells, row=len(cases) + 1))
    return ("case", "image", "split", *columns), tuple(cases), []


def _case(path: Path, split: str, index: int, cells: dict[str, str], row: int) -> Case:
    name = f"{split}_{index:04d}"
    image = {"image": f"{path.absolute()}#{split}/{index}"}
    return Case(
        id=name,
        patient=name,
        images=image,
        masks={},
        cells=cells,
        split=split,
        fold=None,
        spacing=None,
        center=None,
        row=row,
    )


def _image_header(archive: zipfile.ZipFile, name: str) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type."""
    with archive.open(name) as stream:
        shape, _, dtype = _read_header(stream)
    return shape, dtype


def _read_labels(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """Labels (N, L) as integers; never pickled, never larger than the member says."""
    size = archive.getinfo(name).file_size
    if size > _MAX_LABEL_BYTES:
        raise ValueError(f"{name}: {size} bytes of labels, the limit is {_MAX_LABEL_BYTES}")
    with archive.open(name) as stream:
        shape, fortran, dtype = _read_header(stream)
        content = stream.read()
    if dtype.kind not in "iub":
        raise ValueError(f"{name}: expected integer labels, got {dtype}")
    if len(content) != dtype.itemsize * int(np.prod(shape, dtype=object)):
        raise ValueError(f"{name}: the header promises shape {shape} of {dtype}, the file holds {len(content)} bytes")
    values = np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C")
    if values.ndim not in (1, 2):
        raise ValueError(f"{name}: expected labels (N,) or (N, L), got shape {shape}")
    return values.reshape(len(values), -1) if len(values) else values.reshape(0, 1)


def _read_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(stream)
    if version == (2, 0):
        return np.lib.format.read_array_header_2_0(stream)
    raise ValueError(f"array format {version} is not supported")
