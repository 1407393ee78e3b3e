"""A ``.zip`` that holds a DICOM study: its files are read out of it one by one, in memory; nothing is ever unpacked.

The list of its files is checked before the first is read: names that lead elsewhere, links, encryption, a name that
appears twice, files that overlap, more bytes than an archive of that size can hold. What a file holds is read to its
checksum, and never beyond the size that the list says.
"""

from __future__ import annotations

import io
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from anymc3d.data.dicom.header import DICOM_START, is_dicom
from anymc3d.data.formats.scan_file import open_regular
from anymc3d.errors import DamagedScanError

MAX_FILES = 100_000
MAX_BYTES = 32 << 30
"""Bytes of all files together, decoded."""
_MAX_LIST_BYTES = 64 << 20
_END_BYTES = 22 + 65_535
_END_MARK, _END64_PLACE_MARK, _END64_MARK = b"PK\x05\x06", b"PK\x06\x07", b"PK\x06\x06"
_LOCAL_HEADER_BYTES = 30
_LARGE = 1 << 28
_LARGE_RATIO = 200
"""A quarter of a gigabyte of real slices does not shrink 200-fold: what does was made to fill the memory."""
_DEFLATE_RATIO = 1040
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 1
_BROKEN = (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, OSError, ValueError)


@dataclass(frozen=True, eq=False)
class InArchive:
    """A file of an archive; see :class:`anymc3d.data.dicom.places.Place`."""

    archive: zipfile.ZipFile
    info: zipfile.ZipInfo
    reference: Path

    @property
    def name(self) -> str:
        """See :class:`anymc3d.data.dicom.places.Place`."""
        return self.info.filename.rpartition("/")[2]

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """See :class:`anymc3d.data.dicom.places.Place`; of what is no DICOM only the beginning is there."""
        try:
            with self.archive.open(self.info) as member:
                content = member.read(DICOM_START)
                if is_dicom(content):
                    # One byte more than promised: only a read that reaches the end checks the checksum.
                    content += member.read(self.info.file_size + 1 - len(content))
        except _BROKEN as error:
            what = f"a file in the archive is damaged ({type(error).__name__}); get the archive again from its source"
            raise DamagedScanError.of(self.reference, what) from None
        yield io.BytesIO(content)


@contextmanager
def opened_archive(path: Path) -> Iterator[list[InArchive]]:
    """The files of an archive in the order of their names; they can be read while it is open.

    Raises:
        ScanError: it is no intact archive, or its list of files is not to be trusted.
    """
    with open_regular(path) as file:
        _check_list_size(file, path)
        try:
            archive = zipfile.ZipFile(file)
        except _BROKEN as error:
            what = f"expected an intact .zip archive ({type(error).__name__}); get it again from its source"
            raise DamagedScanError.of(path, what) from None
        with archive:
            infos = [info for info in archive.infolist() if not info.is_dir()]
            _check(infos, path, file)
            yield [InArchive(archive, info, path) for info in sorted(infos, key=lambda info: info.filename)]


def _check_list_size(file: BinaryIO, path: Path) -> None:
    """Before the list is read as a whole: how long the archive says it is."""
    end = file.seek(0, io.SEEK_END)
    file.seek(max(0, end - _END_BYTES))
    tail = file.read()
    place = tail.rfind(_END_MARK)
    size = int.from_bytes(tail[place + 12 : place + 16], "little") if place >= 0 else 0
    locator = tail.rfind(_END64_PLACE_MARK)
    if locator >= 0:
        file.seek(int.from_bytes(tail[locator + 8 : locator + 16], "little") & ((1 << 62) - 1))
        record = file.read(56)
        size = int.from_bytes(record[40:48], "little") if record.startswith(_END64_MARK) else size
    file.seek(0)
    if size > _MAX_LIST_BYTES:
        raise DamagedScanError.of(path, f"the archive lists more than {MAX_FILES} files; give one study")


def _check(infos: list[zipfile.ZipInfo], path: Path, file: BinaryIO) -> None:
    size = file.seek(0, io.SEEK_END)
    if len(infos) > MAX_FILES:
        raise DamagedScanError.of(path, f"the archive lists more than {MAX_FILES} files; give one study")
    if len({info.filename for info in infos}) < len(infos):
        raise DamagedScanError.of(
            path, "the archive lists a file twice, and programs take one or the other; pack it again"
        )
    for info in infos:
        if what := _fault(info):
            raise DamagedScanError.of(path, what)
    total = sum(info.file_size for info in infos)
    if total > MAX_BYTES or (total > _LARGE and total > size * _LARGE_RATIO):
        raise DamagedScanError.of(
            path, f"{size} bytes of archive would become {total}: a decompression bomb, or not one study"
        )
    _check_overlap(infos, size, path)


def _fault(info: zipfile.ZipInfo) -> str | None:
    """Why a file of the list is refused; its name is not repeated, which may name the patient."""
    parts = info.filename.split("/")
    if "\\" in info.filename or "\0" in info.filename or ":" in parts[0] or not parts[0] or ".." in parts:
        return "the archive names a file outside of itself; pack it again"
    if stat.S_ISLNK(info.external_attr >> 16):
        return "the archive holds a symbolic link; pack the files themselves"
    if info.flag_bits & _ENCRYPTED:
        return "the archive is encrypted; unpack it with its password, and give the folder"
    if info.compress_type not in _METHODS:
        return "the archive is compressed in another way than deflate; pack it again as a usual .zip"
    promised, packed = info.file_size, info.compress_size
    if promised > packed * _DEFLATE_RATIO + _DEFLATE_RATIO or (promised > _LARGE and promised > packed * _LARGE_RATIO):
        return f"{packed} compressed bytes of a file would become {promised}: damaged, or a decompression bomb"
    return None


def _check_overlap(infos: list[zipfile.ZipInfo], size: int, path: Path) -> None:
    """Files that share their bytes are how a small archive holds petabytes."""
    end = 0
    for info in sorted(infos, key=lambda info: info.header_offset):
        if info.header_offset < end:
            raise DamagedScanError.of(
                path, "files of the archive overlap: damaged, or a decompression bomb; pack it again"
            )
        end = info.header_offset + _LOCAL_HEADER_BYTES + len(info.orig_filename) + info.compress_size
    if end > size:
        raise DamagedScanError.of(path, "the archive is truncated; get it again from its source")
