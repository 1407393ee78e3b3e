"""Folders of ``anymc3d embed`` that were changed by hand, for tests of what reads them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from anymc3d.data.embeddings import settings_hash
from anymc3d.files.tables import read_table, write_table


def changed(
    made: Path,
    tmp_path: Path,
    change: Callable[[dict[str, Any]], object] = lambda record: None,
    rows: Callable[[list[Any]], list[Any]] = lambda rows: rows,
) -> Path:
    """A copy of ``made/embeddings`` whose record and table are as ``change`` and ``rows`` leave them."""
    folder = tmp_path / "embeddings"
    shutil.copytree(made / "embeddings", folder)
    record = json.loads((folder / "embed.json").read_text())
    change(record)
    (folder / "embed.json").write_text(json.dumps(record))
    table = [row | {"settings": settings_hash(record)} for row in read_table(folder / "embeddings.csv")]
    write_table(folder / "embeddings.csv", list(table[0]), rows(table))
    return folder
