"""Damage to the bytes of a file, as disks, transfers and editors do it; a stand-in for malice too."""

from __future__ import annotations

import random

INSERTS = (b",", b'"', b"{", b"[]", b"null", b"\x00", b"\xff\xfe", b"-1e999", b"../../../etc/passwd", b"\n\n")


def damaged(content: bytes, chance: random.Random) -> bytes:
    place = chance.randrange(len(content) + 1)
    lines = content.split(b"\n")
    chance.shuffle(lines)
    flipped = bytearray(content)
    for _ in range(min(10, len(content))):
        flipped[chance.randrange(len(content))] = chance.randrange(256)
    return chance.choice(
        (
            *(b"", content[:place], content + chance.randbytes(50), bytes(flipped), b"\n".join(lines)),
            content[:place] + chance.choice(INSERTS) + content[place:],
        )
    )
