"""Opening the files of scans: only regular files, never more bytes than announced, gzip read to its last byte."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from anymc3d.data import hashes
from anymc3d.errors import DamagedScanError, FormatError, HeaderError, MissingScanError, ScanError
from anymc3d.files.pointers import LONGEST, broken_link, pointer_in

BLOCK = 1 << 18
GZIP_MAGIC = b"\x1f\x8b"
_LARGE = 1 << 30
_LARGE_RATIO = 200
_MOST_EMPTY_MEMBERS = 1000
_GZIP_WINDOW = 31  # zlib's code for: expect a gzip header, check CRC and length at the end
_OPEN_FAILURES = {
    errno.ENOENT: "the file does not exist; check the path (relative paths of a manifest start at its folder)",
    errno.ENOTDIR: "a part of the path is a file, not a folder; check the path",
    errno.EACCES: "no permission to read it; check the file's rights",
    errno.ELOOP: "a symbolic link that leads back to itself; link to the real file",
    errno.ENAMETOOLONG: "the name is too long for this system; check the path",
}


class ConstantScanError(ScanError):
    """All voxels have one ``value``: a fault of a scan, but a segmentation may be empty."""

    def __init__(self, error: ScanError, value: float) -> None:
        super().__init__(str(error), what=error.what, code="E-scan-constant")
        self.value = value


@contextmanager
def open_regular(path: Path) -> Iterator[BinaryIO]:
    """Open a regular file for reading; a FIFO, device or folder is refused without waiting for it.

    Raises:
        ScanError: it is missing, unreadable, or not a regular file.
    """
    try:
        # Without O_NONBLOCK the opening of a FIFO waits for ever.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        number = error.errno if isinstance(error, OSError) else None
        reason = os.strerror(number) if number else type(error).__name__  # never the text, which quotes the path
        broken = broken_link(path) if number == errno.ENOENT else None
        if broken:
            raise MissingScanError.of(path, broken) from error
        raise MissingScanError.of(path, _OPEN_FAILURES.get(number or 0, f"cannot be opened ({reason})")) from error
    state = os.fstat(handle)
    mode = state.st_mode
    if not stat.S_ISREG(mode):
        os.close(handle)
        if stat.S_ISDIR(mode):
            raise FormatError.of(path, "expected a file, got a folder; give the file itself")
        raise FormatError.of(path, "expected a regular file, got a pipe, socket or device; copy it to a file first")
    hashing = hashes.begun(handle, state)
    with os.fdopen(handle, "rb") if hashing is None else hashing as file:
        if state.st_size < LONGEST:
            pointer = pointer_in(file.read())
            if pointer:
                raise MissingScanError.of(path, pointer)
            file.seek(0)
        stored = state.st_blocks * 512
        # A file of holes takes no place on the disk, and all the time and memory that its size says.
        if state.st_size > _LARGE and 0 < stored * _LARGE_RATIO < state.st_size:
            what = f"the file has {state.st_size} bytes, of which {stored} are stored: empty, or a broken copy"
            raise DamagedScanError.of(path, f"{what}; get it again from its source")
        yield file
        if hashing is not None:
            hashing.finish()


def sha256_of(*paths: Path) -> str:
    """Sha256 (hex) of a file's bytes, read in blocks; of several files that are one scan, of their sizes and bytes."""
    digest = hashlib.sha256()
    for path in paths:
        with open_regular(path) as file:
            known = hashes.known(os.fstat(file.fileno()))
            if known is not None and len(paths) == 1:
                return known
            if len(paths) > 1:
                digest.update(f"{os.fstat(file.fileno()).st_size}\n".encode())
            while block := file.read(BLOCK):
                digest.update(block)
    return digest.hexdigest()


def partner_of(path: Path, endings: Sequence[str], other_endings: Sequence[str]) -> Path:
    """The file beside ``path`` with the same name but for its ending: one of the others in place of its own.

    Raises:
        ScanError: there is none, or more than one.
    """
    ending = max((end for end in endings if path.name.lower().endswith(end)), key=len)
    stem = path.name[: -len(ending)]
    partners = {}
    for name in (stem + spelt for end in other_endings for spelt in (end, end.upper())):
        if os.path.lexists(path.parent / name):
            partners[os.lstat(path.parent / name).st_ino] = path.parent / name
    if len(partners) != 1:
        trouble = "is not beside it" if not partners else f"could be any of {len(partners)} files beside it"
        what = f"the other half of the pair ({' or '.join(other_endings)}) {trouble}"
        raise HeaderError.of(path, f"{what}; a pair is two files of one name in one folder")
    return next(iter(partners.values()))


def detached_file(header: Path, field: str, name: str) -> Path:
    """The file that a header names, in ``field``, as the place of its voxels: a plain name, in the header's own folder.

    Raises:
        ScanError: the name leads elsewhere, also through a symbolic link.
    """
    name = name.removeprefix("./")
    place = header.parent / name
    if not name or name in (".", "..") or not set("/\\\0%").isdisjoint(name):
        what = f"{field}: expected the plain name of a file of voxels in the header's own folder, got another text"
        raise HeaderError.of(header, f"{what}; put the two side by side, and the bare file name into the header")
    # A person who links the header (as git-annex does) links its voxels too; otherwise a link is another way out.
    if not header.is_symlink() and not place.resolve().is_relative_to(header.parent.resolve()):
        raise HeaderError.of(
            header, f"{field}: the file of voxels is a link that leads out of the header's folder; copy the file"
        )
    if not os.path.lexists(place):
        raise HeaderError.of(
            header, f"{field}: the file of voxels that the header names is not beside it; put the two side by side"
        )
    return place


@lru_cache(maxsize=1)
def _inflater() -> tuple[Callable[[int], Any], tuple[type[Exception], ...]]:
    """Maker of gzip decoders and what they raise: ISA-L (the extra ``fast``) where it is there, else zlib.

    Both check CRC and length of every member.
    """
    try:
        from isal import isal_zlib
    except ImportError:
        return zlib.decompressobj, (zlib.error,)
    return isal_zlib.decompressobj, (isal_zlib.error, zlib.error)


class ByteSource(Protocol):
    """The decoded bytes of a file, in order."""

    def fill(self, target: memoryview) -> int:
        """Write the next bytes into ``target``; returns how many, fewer than its length only at the end."""

    def drain(self, limit: int) -> int:
        """Read on to the end, at most ``limit`` + 1 bytes; returns how many there were."""


def fill_from(next_block: Callable[[int], bytes], target: memoryview) -> int:
    """Write blocks of at most this many bytes to ``target`` until it is full or a block is empty; returns how many."""
    filled = 0
    while filled < len(target) and (block := next_block(len(target) - filled)):
        target[filled : filled + len(block)] = block
        filled += len(block)
    return filled


class PlainSource:
    """The bytes of an uncompressed file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def fill(self, target: memoryview) -> int:
        """See :class:`ByteSource`."""
        filled = 0
        while filled < len(target) and (count_read := self._file.readinto(target[filled:])):  # type: ignore[attr-defined]
            filled += count_read
        return filled

    def drain(self, limit: int) -> int:
        """See :class:`ByteSource`."""
        return len(self._file.read(limit + 1))


class GzipSource:
    """The decoded bytes of a gzip file of one or more members; CRC and length of each member are checked.

    Raises:
        ScanError: from any method, when the stream is truncated, damaged, or followed by foreign bytes.
    """

    def __init__(self, file: BinaryIO, reference: str | Path) -> None:
        self._file = file
        self._reference = reference
        self._inflate, self._errors = _inflater()
        self._decoder = self._inflate(_GZIP_WINDOW)
        self._pending = b""
        self._ended = False
        self._empty_members = 0

    def fill(self, target: memoryview) -> int:
        """See :class:`ByteSource`."""
        return fill_from(self._next, target)

    def drain(self, limit: int) -> int:
        """See :class:`ByteSource`."""
        count = 0
        while count <= limit and (block := self._next(BLOCK)):
            count += len(block)
        return count

    def _next(self, most: int) -> bytes:
        """At most ``most`` decoded bytes; empty only at the true end of the last member."""
        while not self._decoder.eof or self._begin_next_member():
            self._pending = self._pending or self._file.read(BLOCK)
            at_end = not self._pending
            try:
                block = self._decoder.decompress(self._pending, most)
            except self._errors as error:
                what = f"the compressed data are damaged ({error}); get the file again from its source"
                raise DamagedScanError.of(self._reference, what) from error
            self._pending = self._decoder.unconsumed_tail
            if block:
                self._empty_members = 0
                return block
            if at_end and not self._decoder.eof:
                what = "the compressed data end early: the file is truncated; get it again from its source"
                raise DamagedScanError.of(self._reference, what)
        return b""

    def _begin_next_member(self) -> bool:
        """False at the end of the file; zero bytes after a member are padding, as in the gzip program."""
        if self._ended:
            return False
        rest = self._decoder.unused_data.lstrip(b"\0")
        while len(rest) < len(GZIP_MAGIC) and (block := self._file.read(BLOCK)):
            rest = (rest + block).lstrip(b"\0")
        if not rest:
            self._ended = True
            return False
        self._empty_members += 1
        if not rest.startswith(GZIP_MAGIC) or self._empty_members > _MOST_EMPTY_MEMBERS:
            raise DamagedScanError.of(self._reference, "foreign bytes follow the compressed data; get the file again")
        self._decoder = self._inflate(_GZIP_WINDOW)
        self._pending = rest
        return True
