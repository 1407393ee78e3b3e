"""What every reader of scans promises."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from anymc3d.data.readers import FORMATS, content_hash, read_header, read_volume, register_reader
from anymc3d.data.volume import Volume
from anymc3d.errors import ScanError
from anymc3d.testing.tables import tables_as_before


class ReaderTests:
    """Inherit and say the ``ending``, the ``reader``, and how a scan is written: ``write``.

    Where ``reader`` is a function, put it into ``staticmethod``.
    """

    ending: str
    reader: Any

    def write(self, path: Path, volume: Volume) -> None:
        """Write a file that holds these voxels in this place."""
        raise NotImplementedError("say how a scan is written: def write(self, path, volume)")

    def setup_method(self) -> None:
        """Register the reader, unless it is, and write one scan."""
        self._before = tables_as_before()
        self._before.__enter__()
        if self.ending not in FORMATS:
            register_reader(self.ending, self.reader)
        self._folder = TemporaryDirectory(prefix="anymc3d-")
        self.path = Path(self._folder.name) / f"scan{self.ending}"
        self.volume = _asymmetric()
        self.write(self.path, self.volume)

    def teardown_method(self) -> None:
        """Leave everything as it was."""
        self._folder.cleanup()
        self._before.__exit__(None, None, None)

    def test_voxels_and_places_come_back(self) -> None:
        """What counts is where each voxel lies, not the order in which it is stored."""
        volume = read_volume(self.path)
        assert sorted(volume.shape) == sorted(self.volume.shape)
        for value in (100.0, 200.0, 300.0):
            np.testing.assert_allclose(_place(volume, value), _place(self.volume, value), atol=1e-3)

    def test_the_header_says_what_the_volume_is(self) -> None:
        header, volume = read_header(self.path), read_volume(self.path)
        assert header.shape == volume.shape
        np.testing.assert_allclose(header.affine, volume.affine)

    def test_equal_files_have_equal_hashes_and_others_have_not(self) -> None:
        before = content_hash(self.path)
        assert content_hash(self.path) == before
        moved = Volume(self.volume.voxels + np.float32(1), self.volume.affine)
        self.write(self.path, moved)
        assert content_hash(self.path) != before

    def test_a_damaged_file_is_the_error_of_that_scan(self) -> None:
        whole = self.path.read_bytes()
        for content in (b"", whole[: len(whole) // 2], b"not a scan"):
            self.path.write_bytes(content)
            try:
                read_volume(self.path)
            except ScanError:
                continue
            raise AssertionError(f"a file of {len(content)} bytes, cut or of something else, was read without an error")


def _asymmetric() -> Volume:
    """Three voxels that no turn and no mirror puts on each other, on a grid with three spacings."""
    voxels = np.zeros((4, 5, 6), dtype=np.float32)
    voxels[1, 1, 1], voxels[3, 1, 1], voxels[1, 4, 2] = 100, 200, 300
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    affine[:3, 3] = (-7.0, 11.0, 5.0)
    return Volume(voxels, affine)


def _place(volume: Volume, value: float) -> np.ndarray:
    """RAS millimetres of the voxel nearest to a value."""
    index = np.unravel_index(np.abs(volume.voxels - value).argmin(), volume.shape)
    return (volume.affine @ [*index, 1.0])[:3]
