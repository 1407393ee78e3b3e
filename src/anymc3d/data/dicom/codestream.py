"""What a compressed frame says of its own size, before a decoder believes it.

A decoder reserves memory by the numbers inside the compressed data, which need not be those of the DICOM header; a
truncated frame is often filled up without a word. Sources: ITU-T T.81 (JPEG), T.87 (JPEG-LS), T.800 (JPEG 2000).
"""

from __future__ import annotations

import struct

JPEG_2000 = ("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91")
JPEG = tuple(f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 57, 70, 80, 81))
RLE = "1.2.840.10008.1.2.5"
SUPPORTED = (*JPEG_2000, *JPEG, RLE)
_END = b"\xff\xd9"
_J2K_START = b"\xff\x4f\xff\x51"
_FRAME_MARKERS = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
_RLE_MOST = 65
"""Two bytes of run-length code become at most 128."""


def frame_fault(frame: bytes, syntax: str, rows: int, columns: int, num_bytes: int) -> str | None:
    """Why this compressed frame cannot be one grey image of ``rows`` x ``columns``; None where it can."""
    if syntax == RLE:
        return None if len(frame) * _RLE_MOST >= num_bytes else "its compressed data are too few for its size"
    if not frame[-64:].rstrip(b"\0").endswith(_END):
        return "its compressed data have no end mark: truncated"
    size = _jpeg_2000_size(frame) if syntax in JPEG_2000 else _jpeg_size(frame)
    if size is None:
        return "its compressed data do not begin as their transfer syntax says"
    if size != (rows, columns, 1):
        size_text = " x ".join(map(str, size))
        return f"its compressed data say {size_text} (rows, columns, colours), the header {rows} x {columns} x 1"
    return None


def _jpeg_2000_size(frame: bytes) -> tuple[int, int, int] | None:
    start = frame.find(_J2K_START, 0, 4096)  # some writers put the boxes of a .jp2 file before it
    if start < 0 or len(frame) < start + 42:
        return None
    width, height, left, top = struct.unpack_from(">4I", frame, start + 8)
    return height - top, width - left, struct.unpack_from(">H", frame, start + 40)[0]


def _jpeg_size(frame: bytes) -> tuple[int, int, int] | None:
    place = 2
    if not frame.startswith(b"\xff\xd8"):
        return None
    while place + 10 <= len(frame) and frame[place] == 0xFF:
        marker, length = frame[place + 1], struct.unpack_from(">H", frame, place + 2)[0]
        if marker == 0xFF:
            place += 1
        elif marker in _FRAME_MARKERS:
            height, width, colours = struct.unpack_from(">HHB", frame, place + 5)
            return height, width, colours
        else:
            place += 2 + length
    return None
