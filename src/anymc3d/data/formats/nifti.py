"""Reading NIfTI (-1 and -2, one file or a ``.hdr``/``.img`` pair) so that a damaged file never becomes a volume.

The usual readers accept damaged files: nibabel does not reach the gzip checksum, ITK fills what is missing with
zeros. Here the header is checked first, then exactly the bytes it promises are read, then the rest of the stream to
its checksum; no more is decoded than the header's size and 1 MB.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from anymc3d.data.formats.nifti_header import NiftiHeader, header_size, parse_header
from anymc3d.data.formats.raw_voxels import to_float32
from anymc3d.data.formats.scan_file import ByteSource, open_regular, partner_of
from anymc3d.data.formats.stored_voxels import SLACK, check_size, extra_warning, size_of, source_of, take, voxel_bytes
from anymc3d.data.volume import ScanHeader, Volume
from anymc3d.errors import ScanError

HEADER_NAMES, IMAGE_NAMES = (".hdr", ".hdr.gz"), (".img", ".img.gz")


def read_nifti(path: Path) -> Volume:
    """Read one 3D scan; integer and float types of either byte order, slope and intercept applied.

    Raises:
        ScanError: the file is damaged, is not one 3D scan, or holds NaN, infinity or a single value.
    """
    return _read(path, path)


def read_nifti_header(path: Path) -> ScanHeader:
    """Read and check the header alone; of a .nii.gz only the first bytes are decoded.

    Raises:
        ScanError: the header is damaged, or promises more than the file can hold.
    """
    return _read_header(path, path)


def read_pair(path: Path) -> Volume:
    """Read one 3D scan that is a pair; ``path`` is its ``.hdr`` or its ``.img``, each of which may be gzip.

    Raises:
        ScanError: as :func:`read_nifti`; one of the two is missing, or the header is Analyze 7.5.
    """
    return _read(*pair_of(path))


def read_pair_header(path: Path) -> ScanHeader:
    """Read and check the header of a pair.

    Raises:
        ScanError: as :func:`read_nifti_header` and :func:`read_pair`.
    """
    return _read_header(*pair_of(path))


def pair_of(path: Path) -> tuple[Path, Path]:
    """The header and the voxels of a pair, of which ``path`` is one; the other lies beside it under the same name.

    Raises:
        ScanError: there is no other, or two that could be it.
    """
    if path.name.lower().endswith(HEADER_NAMES):
        return path, partner_of(path, HEADER_NAMES, IMAGE_NAMES)
    return partner_of(path, IMAGE_NAMES, HEADER_NAMES), path


def _read(head: Path, body: Path) -> Volume:
    with _opened(head, body) as (source, header):
        buffer, extra = voxel_bytes(source, header.num_bytes, body)
    raw = buffer.view(header.dtype).reshape(header.shape, order="F")
    voxels, voxel_warnings = to_float32(raw, body, slope=header.slope, intercept=header.intercept)
    warnings = (*header.warnings, *extra_warning(extra), *voxel_warnings)
    return Volume(voxels=voxels, affine=header.affine, warnings=warnings)


def _read_header(head: Path, body: Path) -> ScanHeader:
    with _opened(head, body) as (_, header):
        return ScanHeader(header.shape, header.affine, header.dtype.newbyteorder("=").name, header.warnings)


@contextmanager
def _opened(head: Path, body: Path) -> Iterator[tuple[ByteSource, NiftiHeader]]:
    """The bytes from the first voxel on, and the header, which fits the size of the file with the voxels."""
    with ExitStack() as stack:
        file = stack.enter_context(open_regular(head))
        source, compressed = source_of(file, head)
        first = take(source, 4, head)
        length, order = header_size(first, head)
        header = parse_header(first + take(source, length - 4, head), order, head, paired=head != body)
        offset = length
        if head != body:
            if source.drain(SLACK) > SLACK:
                raise ScanError.of(head, f"more than {SLACK} bytes follow the header: damaged; get the pair again")
            file = stack.enter_context(open_regular(body))
            (source, compressed), offset = source_of(file, body), 0
        check_size(header.offset + header.num_bytes, size_of(file), compressed, body)
        take(source, header.offset - offset, body)
        yield source, header
