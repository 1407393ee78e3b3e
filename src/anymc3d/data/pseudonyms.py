"""Case and patient ids replaced by keyed pseudonyms: the same key gives the same ones, without it nobody gets back.

A bare hash would not do: record numbers can be enumerated. HMAC-SHA256 (RFC 2104) with a secret of 256 bits is used;
the secret is a file that the user keeps apart from what is passed on.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import stat
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from anymc3d.data.case import Case
from anymc3d.errors import UsageError
from anymc3d.files.private import make_private
from anymc3d.files.tables import read_table, write_table

MAP_COLUMNS = ("case", "pseudonym")
_KEY = re.compile(rb"[0-9a-f]{64}\n?")
_DIGITS = 20
"""80 bits: among a million cases two get one pseudonym with a probability of about 4e-13."""


@dataclass(frozen=True)
class Pseudonyms:
    """Pseudonyms under one secret key."""

    key: bytes = field(repr=False)

    @property
    def check(self) -> str:
        """Eight digits that differ between keys and reveal none; they show whether two runs used the same one."""
        return self._digits("check", "", 8)

    def case(self, case_id: str) -> str:
        """``p`` and twenty hexadecimal digits; the letter keeps a spreadsheet from reading a number."""
        return "p" + self._digits("case", case_id, _DIGITS)

    def patient(self, patient_id: str) -> str:
        """As :meth:`case`, with ``s`` (subject) in front; an id that is both gives two pseudonyms."""
        return "s" + self._digits("patient", patient_id, _DIGITS)

    def seal(self, text: str) -> str:
        """A keyed hash of any text, such as the hash of a scan, which anybody who has the scan could compute."""
        return self._digits("seal", text, 64)

    def rename(self, cases: Iterable[Case]) -> list[Case]:
        """The same cases under other ids."""
        return [replace(case, id=self.case(case.id), patient=self.patient(case.patient)) for case in cases]

    def _digits(self, what: str, text: str, count: int) -> str:
        message = f"anymc3d {what}\0{text}".encode("utf-8", "surrogateescape")
        return hmac.new(self.key, message, hashlib.sha256).hexdigest()[:count]


def load_pseudonyms(key_file: Path, *, apart_from: Sequence[Path] = ()) -> Pseudonyms:
    """Read the key, or make the file (mode 0600) with a new one where there is none.

    Args:
        key_file: 64 hexadecimal digits.
        apart_from: folders that may be passed on, in which the key must not lie.

    Raises:
        UsageError: the file lies in such a folder, holds something else, can be read by other users, or cannot be
            read or made.
    """
    refuse_inside(key_file, apart_from, "--pseudonymize: the key")
    try:
        if not os.path.lexists(key_file):
            _make(key_file)
        return Pseudonyms(bytes.fromhex(_read(key_file).decode()))
    except OSError as error:
        what = f"--pseudonymize {key_file}: cannot be used ({error.strerror or error})"
        raise UsageError(f"{what}; name a file in a folder that you can write to") from error


def refuse_inside(path: Path, folders: Sequence[Path], what: str) -> None:
    """Raise where ``path`` lies in one of ``folders``.

    Raises:
        UsageError: it does.
    """
    for folder in folders:
        if path.resolve().is_relative_to(folder.resolve()):
            raise UsageError(f"{what} leads from pseudonyms back to cases: keep it out of the output folder {folder}")


def write_map(path: Path, case_ids: Iterable[str], pseudonyms: Pseudonyms) -> None:
    """Write, or add to, the table ``case,pseudonym``.

    Raises:
        UsageError: ``path`` is another kind of table.
        ProblemsError: the table there is damaged.
    """
    known = {}
    if path.exists():
        rows = read_table(path)
        if any(tuple(row) != MAP_COLUMNS for row in rows):
            raise UsageError(f"--pseudonym-map {path}: expected a new file or a table case,pseudonym; choose another")
        known = {row["case"]: row["pseudonym"] for row in rows}
    known |= {case_id: pseudonyms.case(case_id) for case_id in case_ids}
    write_table(path, MAP_COLUMNS, [dict(zip(MAP_COLUMNS, pair, strict=True)) for pair in sorted(known.items())])


def _make(path: Path) -> None:
    """Write a new key; where another process was faster, its key stays."""
    make_private(path.parent)
    handle, name = tempfile.mkstemp(prefix=".key-", dir=path.parent)  # for this user alone
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_hex(32).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(name, path)
        except FileExistsError:
            return
    finally:
        os.unlink(name)


def _read(path: Path) -> bytes:
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as file:
        state = os.fstat(file.fileno())
        content = file.read(100) if stat.S_ISREG(state.st_mode) else b""
    if not _KEY.fullmatch(content):
        what = f"--pseudonymize {path}: expected a key file of 64 hexadecimal digits, got something else"
        raise UsageError(f"{what}; name a new file, and a key is made")
    if state.st_mode & 0o077:
        raise UsageError(f"--pseudonymize {path}: other users can read this key; chmod 600 it, or make a new one")
    return content.strip()
