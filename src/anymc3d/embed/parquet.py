"""A finished folder of embeddings as one Parquet table, for data frames and databases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from anymc3d.data.embeddings import Embeddings, load_embeddings
from anymc3d.errors import PackageError, UsageError
from anymc3d.files import atomic

PARQUET = "embeddings.parquet"


def check_level(level: str) -> None:
    """Refuse what is no table.

    Raises:
        UsageError: it is a grid, or pyarrow is not installed.
    """
    if level == "patch":
        raise UsageError("--format parquet: embeddings of patches are grids; leave it out, or take another --level")
    _library()


def write_parquet(folder: Path) -> Path:
    """Write ``embeddings.parquet`` beside the arrays: one row for every slice, scan or structure; the path.

    Columns: ``case``, ``view``, ``row``, ``label`` (of a structure), ``x_mm``, ``y_mm``, ``z_mm`` (of a slice's middle,
    RAS) and ``values``, a list of float32. One case at a time is in memory.
    """
    pa, parquet = _library()
    numbers = [(name, pa.float32()) for name in ("x_mm", "y_mm", "z_mm")]
    columns = [("case", pa.string()), ("view", pa.string()), ("row", pa.int32()), ("label", pa.int32()), *numbers]
    schema = pa.schema([*columns, ("values", pa.list_(pa.float32()))])
    embeddings, path = load_embeddings(folder), folder / PARQUET
    with atomic.replacing(path) as temporary, parquet.ParquetWriter(temporary, schema) as writer:
        for view in embeddings.views:
            for table in _tables(embeddings, view):
                writer.write_table(pa.table(table, schema=schema))
    return path


def _tables(embeddings: Embeddings, view: str) -> Any:
    for case, arrays in embeddings.arrays(view):
        values = np.atleast_2d(arrays["values"]).astype(np.float32)
        count = len(values)
        places = arrays.get("position_mm", np.full((count, 3), np.nan, np.float32))
        axes = {name: _or_null(places[:, axis]) for axis, name in enumerate(("x_mm", "y_mm", "z_mm"))}
        labels = arrays["labels"].tolist() if "labels" in arrays else [None] * count
        columns_of_rows = {"case": [case] * count, "view": [view] * count, "row": list(range(count)), "label": labels}
        yield {**columns_of_rows, **axes, "values": list(values)}


def _or_null(numbers: Any) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in numbers]


def _library() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise PackageError("--format parquet needs pyarrow; pip install 'anymc3d[parquet]'") from None
    return pyarrow, pyarrow.parquet
