"""Parquet tables, read as text like any other table: manifests that data frames wrote, a million rows in seconds.

And results written as Parquet beside their CSV, for data frames that read many of them.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anymc3d.errors import PackageError
from anymc3d.files import atomic
from anymc3d.files.tables import BLANKS, Table, read_table

if TYPE_CHECKING:
    import pyarrow

TEXT_COLUMNS = ("case", "patient", "plugin", "status", "message")
"""Written as text whatever they hold: an id 007 is no number."""
_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?")
MAX_CELLS = 10**9
"""Rows times columns; more is refused before it is read."""


def parse_parquet(path: Path) -> Table:
    """The cells as text: whole numbers without a point, null and NaN as empty cells, the index of pandas left out.

    Raises:
        UsageError: pyarrow is not installed.
    """
    try:
        import pyarrow.parquet as parquet
    except ImportError:
        raise PackageError(
            f"{path}: reading Parquet needs pyarrow; pip install 'anymc3d[parquet]', or save it as CSV"
        ) from None
    import pyarrow

    try:
        file = parquet.ParquetFile(path)
        names = [name for name in file.schema_arrow.names if not name.startswith("__index_level_")]
        if file.metadata.num_rows * max(len(names), 1) > MAX_CELLS:
            return Table((), (), (f"{path}: {file.metadata.num_rows} rows of {len(names)} columns are too many cells",))
        table = file.read(columns=names)
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        return Table((), (), (f"{path}: expected a Parquet table, and it is damaged ({type(error).__name__})",))
    not_plain = [name for name in names if not _is_plain(table.column(name).type)]
    if not_plain:
        return Table(
            (),
            (),
            (f"{path}: column {not_plain[0]!r} holds {table.column(not_plain[0]).type}, expected text or numbers",),
        )
    columns = [_texts(table.column(name)) for name in names]
    rows = tuple((number, cells) for number, cells in enumerate(zip(*columns, strict=True), start=2) if any(cells))
    empty = tuple(
        f"row 1: column {at + 1} has no name; name it" for at, name in enumerate(names) if not name.strip(BLANKS)
    )
    return Table(tuple(name.strip(BLANKS) for name in names), rows, empty)


def _is_plain(kind: pyarrow.DataType) -> bool:
    import pyarrow.types as types

    if types.is_dictionary(kind):
        kind = kind.value_type
    checks = (
        types.is_integer,
        types.is_floating,
        types.is_boolean,
        types.is_string,
        types.is_large_string,
        types.is_null,
    )
    return any(check(kind) for check in checks)


def _texts(column: pyarrow.ChunkedArray) -> list[str]:
    return [_text(value) for value in column.to_pylist()]


def _text(value: Any) -> str:
    if value is None or value != value:
        return ""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip(BLANKS)


def check_can_write() -> None:
    """Check, before work begins, that tables can be written as Parquet.

    Raises:
        UsageError: pyarrow is not installed.
    """
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        raise PackageError("--parquet: needs pyarrow; pip install 'anymc3d[parquet]'") from None


def write_beside(table: Path) -> Path:
    """Write the rows of a CSV as Parquet beside it: columns of numbers as numbers, empty cells as null; its path.

    Raises:
        UsageError: pyarrow is not installed.
        OutputError: it cannot be written.
    """
    check_can_write()
    import pyarrow
    import pyarrow.parquet as parquet

    rows, target = read_table(table), table.with_suffix(".parquet")
    columns = {name: _typed(name, [row[name] for row in rows]) for name in (rows[0] if rows else ())}
    with atomic.replacing(target) as temporary:
        parquet.write_table(pyarrow.table(columns), temporary)
    return target


def _typed(name: str, cells: list[str]) -> pyarrow.Array:
    import pyarrow

    if name in TEXT_COLUMNS:
        return pyarrow.array(cells, pyarrow.string())
    if any(cells) and all(_NUMBER.fullmatch(cell) for cell in cells if cell):
        return pyarrow.array([float(cell) if cell else None for cell in cells], pyarrow.float64())
    return pyarrow.array([cell or None for cell in cells], pyarrow.string())
