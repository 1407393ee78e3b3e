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
    """A kind of result file. ``title`` and ``address`` may hold ``{stem}`` and ``{name}``."""

    kind: str
    ending: str
    title: str
    address: str


KINDS = (
    Kind(kind="report", ending=".html", title="Report of {stem} (HTML)", address="report?plugin={stem}"),
    Kind(kind="dicom", ending=".sr.dcm", title="Structured report {stem} (DICOM)", address="dicom/{name}"),
    Kind(kind="dicom", ending=".seg.dcm", title="Segmentation {stem} (DICOM)", address="dicom/{name}"),
    Kind(kind="dicom", ending=".map.dcm", title="Parametric map {stem} (DICOM)", address="dicom/{name}"),
    Kind(kind="dicom", ending=".sc.dcm", title="Picture {stem} (DICOM)", address="dicom/{name}"),
    Kind(kind="heatmap", ending=".nii.gz", title="Heatmap {stem} (NIfTI)", address="heatmaps/{name}"),
    Kind(kind="sr", ending=".sr.dcm", title="Structured report (DICOM)", address="sr"),
    Kind(kind="segmentation", ending=".seg.dcm", title="Segmentation of {stem} (DICOM)", address="dicom/{name}"),
    Kind(kind="map", ending=".map.dcm", title="Parametric map of {stem} (DICOM)", address="dicom/{name}"),
    Kind(kind="capture", ending=".sc.dcm", title="Overlay of {stem} (DICOM)", address="dicom/{name}"),
)


def links_of(job_id: str, names: Sequence[str]) -> list[dict[str, str]]:
    """``kind``, ``title``, ``href``, ``name`` and ``plugin`` of every file that there is an address for."""
    links = []
    for kind in KINDS:
        for name in names:
            if not name.endswith(kind.ending):
                continue
            stem = name.removesuffix(kind.ending)
            words = {"stem": stem, "name": name}
            address = kind.address.format(**{key: quote(text) for key, text in words.items()})
            links.append(
                {
                    "kind": kind.kind,
                    "title": kind.title.format(**words),
                    "href": f"/v1/jobs/{job_id}/{address}",
                    "name": name,
                    "plugin": stem.partition(".")[0],
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
