"""What can happen to a file that a program keeps: for tests that no such thing goes unnoticed."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

Damage = Callable[[Path], None]


def flipped(content: bytes, most: int) -> Iterator[bytes]:
    """The content with one bit changed, at ``most`` places spread evenly over it."""
    bits = len(content) * 8
    step = max(1, bits // most) | 1  # odd, so that every position within a byte has its turn
    for bit in range(0, bits, step):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << (bit % 8)
        yield bytes(changed)


def _replaced(make: Damage) -> Damage:
    def damage(path: Path) -> None:
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        path.unlink(missing_ok=True)
        make(path)

    return damage


STAND_INS: dict[str, Damage] = {
    "empty": lambda path: path.write_bytes(b""),
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "one byte short": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "one byte more": lambda path: path.write_bytes(path.read_bytes() + b"\0"),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "text": lambda path: path.write_bytes(b"[]"),
    "pipe": _replaced(os.mkfifo),
    "folder": _replaced(Path.mkdir),
    "endless device": _replaced(lambda path: path.symlink_to("/dev/zero")),
    "empty device": _replaced(lambda path: path.symlink_to("/dev/null")),
    "link to itself": _replaced(lambda path: path.symlink_to(path.name)),
    "link to nothing": _replaced(lambda path: path.symlink_to("nothing")),
}
"""Name -> what puts something else in the place of a file."""


def swap(one: Path, other: Path) -> None:
    """Each file in the other's place."""
    beside = one.with_name("beside")
    shutil.move(one, beside)
    shutil.move(other, one)
    shutil.move(beside, other)
