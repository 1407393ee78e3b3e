"""Three planes with a heatmap over them: still pictures that the page's script turns into sliders with a crosshair."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence

import numpy as np

from anymc3d.data.volume import Volume
from anymc3d.explain.grey import grey_of
from anymc3d.page.document import data_url, paragraph
from anymc3d.pictures.colours import FULL_FROM, HEAT_NOTE, OPACITY, TRANSPARENT_BELOW, blend, palette
from anymc3d.pictures.places import AxisPlaces, places_of
from anymc3d.pictures.planes import CONVENTION, PLANES, Plane
from anymc3d.pictures.sheet import scale_bar_mm
from anymc3d.pictures.tiles import scale_for
from anymc3d.printable import escape
from anymc3d.report.levels import Levels, levels_of, table_of, windows_of
from anymc3d.report.planes import Peak, peak_of, still
from anymc3d.report.study import StudyFacts
from anymc3d.report.viewer_controls import controls
from anymc3d.report.volumes import HEAT_LEVELS, ReducedVolume, Sheet, grey_values, heat_sheets, jpeg, png, scan_sheet

STILL_PIXELS = 320
_MAX_MAPS = 40


def viewer(facts: StudyFacts) -> str:
    """Return the figure with its controls and the data of its script.

    The scan shown is the one on whose grid the maps lie.
    """
    maps = facts.maps[:_MAX_MAPS]
    scan = facts.scans[maps[0].column]
    low, high, how = grey_of(facts.card, maps[0].column, scan)
    is_ct = "CT" in (scan.modality, None if facts.card is None else facts.card.modality)
    levels = levels_of(scan, (low, high), is_ct=is_ct)
    sheet, reduced = scan_sheet(scan, levels)
    volumes = [Volume(voxels=heat.values, affine=heat.affine) for heat in maps]
    sheets = heat_sheets(volumes)
    peaks = [peak_of(volume, scan) for volume in volumes]
    first = next((i for i, heat in enumerate(maps) if heat.label == facts.first_label), 0)
    windows, places = windows_of((low, high), is_ct=is_ct), places_of(scan)
    data = {
        "scan": sheet.record(),
        "extent": reduced.extent_mm,
        "planes": {name: plane.record() for name, plane in PLANES.items()},
        "slices": [axis.record() for axis in places],
        "values": [round(float(level), 4) for level in levels],
        "grey": (low, high),
        "windows": list(windows.values()),
        "opacity": OPACITY,
        "clear": TRANSPARENT_BELOW,
        "full": FULL_FROM,
        "palette": base64.b64encode(palette().tobytes()).decode(),
        "maps": [
            {**map_sheet.record(), "label": heat.label, "peak": peak.index}
            for map_sheet, heat, peak in zip(sheets, maps, peaks, strict=True)
        ],
        "first": first,
    }
    grey_map = grey_values(volumes[first], HEAT_LEVELS, 128).grey
    planes = _planes(reduced, grey_map, peaks[first], table_of(levels, (low, high)), places, maps[first].label)
    of_label = facts.values or facts.probabilities
    names = [(heat.label, of_label[heat.label]) for heat in maps]
    return "\n".join(
        [
            f'<div id="viewer" class="viewer">{controls(names, first, list(windows), (low, high), levels)}',
            f'<div class="planes">{planes}</div>{_scales(reduced)}</div>',
            *_notes(facts, peaks, what_is_reduced(reduced, sheet, sheets[0], how)),
            f'<script type="application/json" id="viewer-data">{_json_in_html(data)}</script>',
        ]
    )


def _json_in_html(data: dict[str, object]) -> str:
    """JSON without "<", so that no text in it can end its block."""
    return json.dumps(data).replace("<", "\\u003c")


def _notes(facts: StudyFacts, peaks: Sequence[Peak], where: str) -> list[str]:
    flat = [heat.label for heat, peak in zip(facts.maps, peaks, strict=False) if peak.is_flat]
    return [
        paragraph(f"The map of {', '.join(flat)} is flat: no place stands out.") if flat else "",
        paragraph(
            f"{HEAT_NOTE} {CONVENTION} All planes have one scale. Each map is scaled by itself: 1 is its own highest "
            f"value, and below {TRANSPARENT_BELOW:g} nothing is laid over the scan. A click moves the crosshair, the "
            "wheel turns slices."
        ),
        paragraph(where, "quiet"),
    ]


def what_is_reduced(reduced: ReducedVolume, sheet: Sheet, heat: Sheet, how: str) -> str:
    """What the page shows less of than the files hold."""
    before, after = (" × ".join(map(str, shape)) for shape in (reduced.shape_before, sheet.shape))
    smaller = f"reduced from {before} to {after} voxels" if before != after else f"{after} voxels"
    kind = "8 bit" if sheet.lossless else "8 bit, compressed with losses (JPEG)"
    finer = " × ".join(map(str, heat.shape))
    return (
        f"Shown here, not for reading the scan: {smaller}, {kind}, {how} at first, axes turned to the patient's "
        f"nearest; slices are counted as in the file. The heatmap is shown on {finer} points; the NIfTI of "
        "'anymc3d explain' holds all of it."
    )


def _scales(scan: ReducedVolume) -> str:
    """One ruler for all planes, and the heatmap's colours."""
    sizes = [plane.size_mm(scan.extent_mm) for plane in PLANES.values()]
    longest, total = max(max(size) for size in sizes), sum(width for width, _ in sizes)
    length = scale_bar_mm(max(width for width, _ in sizes))
    ramp = blend(np.zeros((1, 128)), np.linspace(0, 1, 128)[None])
    bar = data_url(png(ramp), "png")
    return (
        f'<p class="scales"><span><span class="ruler" style="--share:{length / total:.5f};--part:'
        f'{length / longest:.5f}" aria-hidden="true"></span>{length} mm</span>'
        f'<span>heatmap 0<img src="{bar}" alt="Colours of the heatmap from low to high">1</span></p>'
    )


def _planes(
    scan: ReducedVolume, heat: np.ndarray, peak: Peak, table: Levels, slices: Sequence[AxisPlaces], label: str
) -> str:
    sizes = {name: plane.size_mm(scan.extent_mm) for name, plane in PLANES.items()}
    scale = scale_for(list(sizes.values()), STILL_PIXELS)
    total, longest = sum(width for width, _ in sizes.values()), max(max(size) for size in sizes.values())
    figures = []
    for name, plane in PLANES.items():
        index, axis_places = peak.index[plane.across], slices[plane.across]
        pixels = still(plane, scan, (index + 0.5) / axis_places.count, heat, table=table, mm_per_pixel=scale)
        width = sizes[name][0]
        style = f"--share:{width / total:.5f};--part:{width / longest:.5f}"
        figures.append(_figure(plane, data_url(jpeg(pixels), "jpeg"), style, index, axis_places, label))
    return "\n".join(figures)


def _figure(plane: Plane, picture: str, style: str, index: int, slices: AxisPlaces, label: str) -> str:
    name, where = plane.name, slices.text(index)
    sides = "".join(
        f'<span class="{edge}" aria-hidden="true">{letter}</span>'
        for edge, letter in zip(("left", "right", "top", "bottom"), plane.sides, strict=True)
    )
    alt = f"{name} plane, slice {where}, with the heatmap of {label}"
    return (
        f'<figure class="plane" data-plane="{name}" style="{style}"><figcaption>{name.capitalize()}</figcaption>'
        f'<div class="frame"><div class="picture"><img src="{picture}" alt="{escape(alt)}"></div>'
        f"{sides}</div>"
        f'<p class="control"><label for="{name}-slice">Slice</label>'
        f'<input type="range" id="{name}-slice" min="1" max="{slices.count}" value="{index + 1}" disabled>'
        f'<output for="{name}-slice">{where}</output></p></figure>'
    )
