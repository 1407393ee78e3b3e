"""Decoding compressed frames in a child process: a damaged frame may end the decoder, but never the program.

The decoders of the JPEG family are C and C++; on damaged data some abort the whole process (an exception nobody
catches, a write outside of memory). One child serves one series: it gets a frame with its description through a pipe
and gives back the pixels. It has a memory limit, and a time limit for each frame.
"""

from __future__ import annotations

import json
import logging
import os
import struct
import subprocess
import sys
import threading
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from anymc3d.errors import TRACEBACKS

logger = logging.getLogger(__name__)
FRAME_SECONDS = 60
_MEMORY_BYTES = 6 << 30
_LENGTHS = struct.Struct(">QQ")
_REPLY = struct.Struct(">2sQ")
_FAILED = b"--"


class DecoderError(Exception):
    """A frame cannot be decoded."""


@dataclass(frozen=True)
class FrameDescription:
    """What a decoder must know of one grey frame besides its bytes; names as in the DICOM header."""

    syntax: str
    rows: int
    columns: int
    bits_allocated: int
    bits_stored: int
    signed: bool


class FrameDecoder(AbstractContextManager["FrameDecoder"]):
    """A child process that decodes frames one by one; it is started by the first frame and ends with the context."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None

    def __exit__(self, *_: object) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.communicate()
            self._child = None

    def decode(self, frame: bytes, description: FrameDescription) -> NDArray[np.integer[Any]]:
        """Pixels (rows, columns) of one compressed frame.

        Raises:
            DecoderError: the decoder refuses the frame, dies of it, or takes more than :data:`FRAME_SECONDS`.
        """
        child = self._child = self._child or _start()
        stopwatch = threading.Timer(FRAME_SECONDS, child.kill)
        stopwatch.start()
        try:
            _send(child.stdin, json.dumps(asdict(description)).encode(), frame)  # type: ignore[arg-type]
            code, content = _reply(child.stdout)  # type: ignore[arg-type]
        except (BrokenPipeError, EOFError):
            self.__exit__()
            raise DecoderError("the decoder broke down") from None
        finally:
            stopwatch.cancel()
        expected = description.rows * description.columns
        if code == _FAILED or len(content) != expected * int(code[1:]):
            raise DecoderError("the decoder refuses it")
        return np.frombuffer(content, dtype=code.decode()).reshape(description.rows, description.columns)


def _start() -> subprocess.Popen[bytes]:
    command = [sys.executable, "-P", "-m", "anymc3d.data.dicom.decoder"]
    alone = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    pipe = subprocess.PIPE
    # What the decoders say, straight to the descriptor as C does; it is about the frame, which has no tags.
    errors = None if logger.isEnabledFor(TRACEBACKS) else subprocess.DEVNULL
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=errors, env={**os.environ, **alone})


def _send(pipe: BinaryIO, description: bytes, frame: bytes) -> None:
    pipe.write(_LENGTHS.pack(len(description), len(frame)) + description)
    pipe.write(frame)
    pipe.flush()


def _reply(pipe: BinaryIO) -> tuple[bytes, bytes]:
    code, length = _REPLY.unpack(_exactly(pipe, _REPLY.size))
    return code, _exactly(pipe, length)


def _exactly(pipe: BinaryIO, count: int) -> bytes:
    content = pipe.read(count)
    if len(content) < count:
        raise EOFError
    return content


def _serve(requests: BinaryIO, replies: BinaryIO) -> None:
    """What the child does until its input ends."""
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    while lengths := requests.read(_LENGTHS.size):
        described, num_bytes = _LENGTHS.unpack(lengths)
        description = FrameDescription(**json.loads(requests.read(described)))
        try:
            pixels = _decoded(requests.read(num_bytes), description)
        except Exception:  # noqa: BLE001 (whatever a decoder raises, the parent learns of it)
            replies.write(_REPLY.pack(_FAILED, 0))
        else:
            content = np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder("="))
            code = f"{content.dtype.kind}{content.dtype.itemsize}".encode()
            replies.write(_REPLY.pack(code, content.nbytes) + content.tobytes())
        replies.flush()


def _decoded(frame: bytes, description: FrameDescription) -> NDArray[np.integer[Any]]:
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.encaps import encapsulate
    from pydicom.pixels import get_decoder

    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = description.syntax
    dataset.Rows, dataset.Columns = description.rows, description.columns
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored = description.bits_allocated, description.bits_stored
    dataset.HighBit, dataset.PixelRepresentation = description.bits_stored - 1, int(description.signed)
    dataset.PixelData = encapsulate([frame])
    pixels, _ = get_decoder(description.syntax).as_array(dataset, raw=True, decoding_plugin="gdcm")
    return pixels


if __name__ == "__main__":
    # The decoders may print: what they print must not stand between the replies.
    _replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    _serve(sys.stdin.buffer, _replies)
