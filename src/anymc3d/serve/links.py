"""What the page and the interface offer of an ended job: what was decided, and each file with its address.

A new kind of result is one line of :data:`KINDS` and its route in ``api``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from anymc3d.serve.jobs import Job


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of result file. ``title`` and ``address`` may hold ``{stem}`` and ``{name}``, and the plugin that
    the stem begins with and its ``{rest}``."""

    kind: str
    ending: str
    title: str
    address: str


_OF = "of {plugin}, {rest}"
KINDS = (
    Kind(kind="report", ending=".html", title="Report of {stem} (HTML)", address="report?plugin={stem}"),
    Kind(kind="heatmap", ending=".nii.gz", title=f"Heatmap {_OF} (NIfTI)", address="heatmaps/{name}"),
    Kind(kind="sr", ending=".sr.dcm", title="Structured report (DICOM)", address="sr"),
    Kind(kind="segmentation", ending=".seg.dcm", title=f"Segmentation {_OF} (DICOM)", address="dicom/{name}"),
    Kind(kind="map", ending=".map.dcm", title=f"Parametric map {_OF} (DICOM)", address="dicom/{name}"),
    Kind(kind="capture", ending=".sc.dcm", title=f"Overlay {_OF} (DICOM)", address="dicom/{name}"),
)


def links_of(job_id: str, names: Sequence[str]) -> list[dict[str, str]]:
    """``kind``, ``title``, ``href``, ``name`` and ``plugin`` of every file that there is an address for."""
    links = []
    for kind in KINDS:
        for name in names:
            if not name.endswith(kind.ending):
                continue
            stem = name.removesuffix(kind.ending)
            plugin, _, rest = stem.partition(".")
            words = {"stem": stem, "name": name, "plugin": plugin, "rest": rest}
            address = kind.address.format(**{key: quote(text) for key, text in words.items()})
            links.append(
                {
                    "kind": kind.kind,
                    "title": kind.title.format(**words),
                    "href": f"/v1/jobs/{job_id}/{address}",
                    "name": name,
                    "plugin": plugin,
                }
            )
    return links


def decided(job: Job) -> list[str]:
    """The labels decided positive, the class decided for, or the number; of several plugins with the plugin's name."""
    several = len(job.rows) > 1
    labels: list[str] = []
    for row in job.rows:
        names = [key.partition(".")[2] for key, value in row.items() if key.startswith("decision.") and value]
        names += [f"{key.partition('.')[2]} {row[key]:.4g}" for key in row if key.startswith("value.")]
        labels += [f"{row['plugin']}: {name}" if several else name for name in names]
    return labels
