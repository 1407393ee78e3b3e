"""What a notebook shows of heatmaps: each case's answer, and the pictures that lie in the folder of ``explain``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from anymc3d.explain.folder import NOTICE, file_name
from anymc3d.files import regular
from anymc3d.files.containment import inside
from anymc3d.page.document import data_url, paragraph
from anymc3d.page.notebook import cell
from anymc3d.printable import escape

MOST_CASES, MOST_PICTURES = 3, 4
MAX_BYTES = 8 * 2**20
"""Of a picture; the notebook keeps all that it shows."""


def heatmaps_html(records: Sequence[Mapping[str, Any]], folder: Path) -> str:
    """The first cases with their scans under the heatmaps."""
    cells = [cell(f"Case {record['case']}", _parts(record, folder)) for record in records[:MOST_CASES]]
    more = len(records) - MOST_CASES
    return "\n".join(cells) + (paragraph(f"{more} more cases lie in the folder.") if more > 0 else "")


def _parts(record: Mapping[str, Any], folder: Path) -> Iterator[str]:
    if record["status"] == "error":
        yield paragraph(f"No answer: {record['message']}", "warning")
        return
    for text in (*record.get("unlike_training", ()), *record.get("plugin_doubts", ())):
        yield paragraph(f"Do not rely on it: {text}.", "warning")
    answers = record.get("values") or record["probabilities"]
    yield paragraph("; ".join(f"{label} {value:.3f}" for label, value in answers.items()))
    pictures = [(heatmap, name) for heatmap in record["heatmaps"] for name in heatmap["files"] if name.endswith(".png")]
    for heatmap, name in pictures[:MOST_PICTURES]:
        path = inside(folder / file_name(record["case"]), name)
        content = regular.read_bytes(path) if path.is_file() and path.stat().st_size <= MAX_BYTES else b""
        if content.startswith(b"\x89PNG\r\n\x1a\n"):
            what = f"{heatmap['label']}, view {heatmap['view']}, {heatmap['method']}"
            yield f'<p>{escape(what)}</p><img alt="{escape(f"The scan and its heatmap: {what}")}" '
            yield f'style="max-width: 100%" src="{data_url(content, "png")}">'
    if pictures:
        yield paragraph(f"{NOTICE.capitalize()}.", "quiet")
