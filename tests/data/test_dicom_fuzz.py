"""Random damage never ends in a foreign exception, a signal, a hang, or an identifier in a message."""

from __future__ import annotations

import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from test_dicom_pixels import ENCODINGS

from anymc3d.data.dicom import read
from anymc3d.data.dicom.decoder import FrameDecoder
from anymc3d.errors import ScanError
from dicom_makers import PHI, ROOT, anatomy, content, make_enhanced, make_series

MUTATIONS = 667  # of each of the three files
SLOWEST_SECONDS = 10


def plain() -> bytes:
    return content(make_series(stored=anatomy(1)).slices[0])


def enhanced() -> bytes:
    return content(make_enhanced(stored=anatomy(2)).slices[0])


def jpeg_2000(tmp_path: Path) -> bytes:
    path = tmp_path / "made.dcm"
    path.write_bytes(plain())
    ENCODINGS["jpeg_2000"](path)
    return path.read_bytes()


def mutated(body: bytes, rng: np.random.Generator) -> bytes:
    """Some bytes flipped, a piece cut out, put in, doubled, or the end cut off."""
    changed = bytearray(body)
    for _ in range(int(rng.integers(1, 6))):
        place = int(rng.integers(0, len(changed)))
        length = int(rng.integers(1, 40))
        match int(rng.integers(0, 6)):
            case 0 | 1:
                changed[place] ^= 1 << int(rng.integers(0, 8))
            case 2:
                changed[place : place + length] = rng.bytes(length)
            case 3:
                del changed[place : place + length]
            case 4:
                changed[place:place] = changed[max(0, place - length) : place]
            case 5:
                del changed[max(132, place) :]
    return bytes(changed)


@pytest.mark.parametrize("kind", ["plain", "enhanced", "jpeg_2000"])
def test_A4_random_damage_is_read_or_refused(tmp_path: Path, monkeypatch, kind: str, capfd) -> None:
    """Of the decoder, which runs in a child, one serves all files here, and is started anew where a frame ends it."""
    decoder = FrameDecoder()
    monkeypatch.setattr(read, "FrameDecoder", lambda: nullcontext(decoder))
    body = jpeg_2000(tmp_path) if kind == "jpeg_2000" else {"plain": plain, "enhanced": enhanced}[kind]()
    rng = np.random.default_rng(2_000)
    folder = tmp_path / "scan"
    folder.mkdir()
    path = folder / "PHI_FILE.dcm"
    outcomes = {"read": 0, "refused": 0}
    for _ in range(MUTATIONS):
        path.write_bytes(mutated(body, rng))
        began = time.process_time()
        try:
            volume = read.read_dicom(folder)
        except ScanError as error:
            said = str(error)
            outcomes["refused"] += 1
        else:
            assert np.isfinite(volume.voxels).all()
            said = " ".join(volume.warnings)
            outcomes["read"] += 1
        assert time.process_time() - began < SLOWEST_SECONDS
        assert "\n" not in said and not [secret for secret in (*PHI, ROOT) if secret in said]
    decoder.__exit__()
    assert min(outcomes.values()) > 20, outcomes
    printed = capfd.readouterr()
    assert not [secret for secret in PHI if secret in printed.out + printed.err]
