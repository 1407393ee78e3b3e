"""``anymc3d data fetch``: every scan and mask at an address into a folder, and the manifest that names them there."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from anymc3d.cost.progress import Progress
from anymc3d.data.case import is_family
from anymc3d.data.remote import is_address, local, why_not, without_secrets
from anymc3d.errors import CredentialsError, ManifestError, ScanError
from anymc3d.files import atomic
from anymc3d.files.tables import read_table, write_table


@dataclass(frozen=True)
class FetchResult:
    """Files that were brought here or were here already, and one line for each that could not be."""

    files: int
    problems: tuple[str, ...]
    refused: int = 0
    """How many of the problems are credentials that a store does not take."""


def fetch_manifest(manifest: Path, out: Path, folder: Path, *, quiet: bool = False) -> FetchResult:
    """Fetch into ``folder`` and write ``out``; the same call again fetches what is missing. Nothing else changes.

    Raises:
        ManifestError: the table cannot be read, or an address may not be opened; nothing was fetched.
        OutputError: something cannot be written.
    """
    rows = read_table(manifest)
    columns = list(rows[0]) if rows else []
    wanted = [column for column in columns if is_family(column, "image") or is_family(column, "mask")]
    cells = [(row, column) for row in rows for column in wanted if is_address(row[column])]
    refused = [f"{without_secrets(row[column])}: {why}" for row, column in cells if (why := why_not(row[column]))]
    if refused:
        raise ManifestError(str(manifest), refused)
    problems, refusals, base = [], 0, out.absolute().parent
    for row, column in Progress(cells, what="fetching", unit="scan", quiet=quiet):
        address = row[column]
        try:
            target = _placed(address, folder)
        except ScanError as error:
            refusals += isinstance(error, CredentialsError)
            problems.append(f"{row.get('case') or without_secrets(address)}: {column}: {error.what}")
            continue
        row[column] = os.path.relpath(target.absolute(), base)
    for row in rows:
        for column in wanted:
            if row[column] and not is_address(row[column]):
                row[column] = _from(row, column, manifest, base, folder)
    write_table(out, columns, rows)
    return FetchResult(len(cells) - len(problems), tuple(problems), refusals)


def _placed(address: str, folder: Path) -> Path:
    """The file in ``folder``; its name is of the address, so that it is known again."""
    fetched_path = Path(local(address))
    name = f"{hashlib.sha256(address.encode()).hexdigest()[:24]}{fetched_path.name.removeprefix('scan')}"
    target = folder / name
    if not target.exists():
        with atomic.replacing(target, needed=fetched_path.stat().st_size) as temporary:
            shutil.copyfile(fetched_path, temporary)
    return target


def _from(row: Mapping[str, str], column: str, manifest: Path, base: Path, folder: Path) -> str:
    """A path of the old table, as the new one's folder sees it."""
    cell = row[column]
    if os.path.isabs(cell) or (base / cell).absolute().is_relative_to(folder.absolute()):
        return cell
    return os.path.relpath(manifest.absolute().parent / cell, base)
