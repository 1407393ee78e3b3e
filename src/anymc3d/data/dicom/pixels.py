"""Stored pixel values of one file, frame by frame: decoded, cut to their bits, with their sign.

pydicom splits the frames and decodes them (RLE itself, the JPEG family through GDCM in a child process); what the
bits mean is decided here, in the same way for every transfer syntax. Source: DICOM PS3.5, section 8 and annex A.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anymc3d.data.dicom.codestream import RLE, SUPPORTED, frame_fault
from anymc3d.data.dicom.decoder import DecoderError, FrameDecoder, FrameDescription
from anymc3d.data.dicom.header import NATIVE, DicomFile, read_dataset
from anymc3d.data.dicom.places import length_of
from anymc3d.errors import DamagedScanError

_PIXEL_TAGS = (
    *("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated"),
    *("BitsStored", "HighBit", "PixelRepresentation", "PixelData"),
    *("ExtendedOffsetTable", "ExtendedOffsetTableLengths"),
)
_SLACK = 1 << 20
_LARGE = 1 << 28
_LARGE_RATIO = 200
"""A quarter of a gigabyte of real pixels does not shrink 200-fold: what does was made to fill the memory."""

Pixels = NDArray[np.integer[Any]]


def stored_frames(file: DicomFile, reference: Path, decoder: FrameDecoder) -> Iterator[Pixels]:
    """Stored values (rows, columns) of each frame, in order; signed where the file says so, not yet rescaled.

    Raises:
        ScanError: the pixels are missing, truncated, larger than promised, or outside of their bits.
        whatever pydicom or a decoder raises on damaged data; callers guard it.
    """

    def fault(what: str) -> Exception:
        return DamagedScanError.of(reference, f"file {file.number} in order of name: {what}; export the series again")

    if file.transfer_syntax not in (*NATIVE, *SUPPORTED):
        raise fault("its transfer syntax is not read (convert it to explicit little endian or JPEG 2000)")
    if file.encapsulated and file.num_bytes > _LARGE and file.num_bytes > file.size * _LARGE_RATIO:
        raise fault(f"{file.size} compressed bytes would become {file.num_bytes}: empty or a decompression bomb")
    with file.place.open() as opened:
        if length_of(opened) != file.size:
            raise fault("it changed while it was read")
        dataset = read_dataset(opened, _PIXEL_TAGS, most=file.num_bytes + _SLACK)
    content = dataset.get("PixelData")
    if content is None:
        raise fault("its pixels (PixelData) are missing")
    if not file.encapsulated and len(content) - file.num_bytes not in (0, file.num_bytes % 2):
        raise fault(f"it promises {file.num_bytes} bytes of pixels and holds {len(content)}")
    for raw in _decoded(dataset, file, decoder, fault):
        yield _cut_to_bits(raw, file, fault)


def _decoded(dataset: Any, file: DicomFile, decoder: FrameDecoder, fault: Any) -> Iterator[Pixels]:
    from pydicom.pixels import get_decoder

    if file.encapsulated and file.transfer_syntax != RLE:
        yield from _decoded_apart(dataset, file, decoder, fault)
        return
    if file.encapsulated:
        _compressed_frames(dataset, file, fault)
    dicom_decoder = get_decoder(file.transfer_syntax)
    for index in range(len(file.frames)):
        # What the unused bits hold is judged here, not wiped there.
        pixels, _ = dicom_decoder.as_array(dataset, index=index, raw=True, correct_unused_bits=False)
        if pixels.shape != (file.rows, file.columns):
            raise fault(f"it decodes to {pixels.shape}, expected {(file.rows, file.columns)}")
        yield pixels


def _decoded_apart(dataset: Any, file: DicomFile, decoder: FrameDecoder, fault: Any) -> Iterator[Pixels]:
    description = FrameDescription(
        syntax=file.transfer_syntax,
        rows=file.rows,
        columns=file.columns,
        bits_allocated=file.bits_allocated,
        bits_stored=file.bits_stored,
        signed=file.signed,
    )
    for frame in _compressed_frames(dataset, file, fault):
        try:
            yield decoder.decode(frame, description)
        except DecoderError as error:
            raise fault(f"its compressed pixels are damaged ({error})") from error


def _compressed_frames(dataset: Any, file: DicomFile, fault: Any) -> list[bytes]:
    from pydicom.encaps import generate_frames

    count = len(file.frames)
    frames = list(generate_frames(dataset.PixelData, number_of_frames=count))
    if len(frames) != count:
        raise fault(f"it holds {len(frames)} compressed frames, the header promises {count}")
    for frame in frames:
        what = frame_fault(frame, file.transfer_syntax, file.rows, file.columns, file.num_bytes // count)
        if what:
            raise fault(what)
    return frames


def _cut_to_bits(raw: Pixels, file: DicomFile, fault: Any) -> Pixels:
    """The ``bits_stored`` bits that end at ``high_bit``; a file's unused bits may hold its sign, an overlay, or none.

    Signed values of 12 bits in 16, for instance, come from some writers with the upper four bits empty: they need
    their sign extended, and nothing later would notice (-1 would be 4095).
    """
    width = raw.dtype.itemsize * 8
    unsigned = np.ascontiguousarray(raw).astype(raw.dtype.newbyteorder("=")).view(f"u{raw.dtype.itemsize}")
    low = 0 if file.encapsulated and file.transfer_syntax != RLE else file.high_bit + 1 - file.bits_stored
    top = low + file.bits_stored
    if low and not file.overlay_in_pixels and (unsigned & ((1 << low) - 1)).any():
        raise fault(f"some pixels use bits below those that BitsStored and HighBit name ({low} to {file.high_bit})")
    if top >= width and low == 0:
        return unsigned.view(f"i{raw.dtype.itemsize}") if file.signed else unsigned
    if top < width:
        upper = unsigned >> top
        signs = (unsigned >> (top - 1)) & 1
        extended = signs * ((1 << (width - top)) - 1)
        lawful = (upper == 0) | (upper == extended) if file.signed else upper == 0
        if not file.overlay_in_pixels and not lawful.all():
            what = f"some pixels need more than the {file.bits_stored} bits that BitsStored promises"
            is_padding = file.padding is not None and (unsigned[~lawful] == file.padding % (1 << width)).all()
            raise fault(f"{what}{': all of them are padding (PixelPaddingValue)' * bool(is_padding)}")
    values = (unsigned >> low) & ((1 << file.bits_stored) - 1)
    if not file.signed:
        return values
    sign = 1 << (file.bits_stored - 1)
    return (values.astype(np.int64) ^ sign) - sign
