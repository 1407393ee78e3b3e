"""Three planes with heat over them: still pictures that the page's script turns into sliders."""

from __future__ import annotations

import base64
import json
from html import escape

import numpy as np

from anymc3d.data.volume import Volume
from anymc3d.explain.picture import OPACITY, PLANES, grey_window
from anymc3d.page.document import data_url, paragraph
from anymc3d.report.planes import SIDES, Peak, palette, peak_of, size_mm, still
from anymc3d.report.study import StudyFacts
from anymc3d.report.volumes import Reduced, Sheet, grey_values, heat_sheets, jpeg, scan_sheet

STILL_PIXELS = 320
_MAX_MAPS = 40


def viewer(facts: StudyFacts) -> str:
    """Return the figure with its controls and the data of its script.

    The scan shown is the one on whose grid the maps lie.
    """
    maps = facts.maps[:_MAX_MAPS]
    scan = facts.scans[maps[0].column]
    low, high, how = grey_window(facts.card, maps[0].column, scan)
    sheet, reduced = scan_sheet(scan, low, high)
    volumes = [Volume(voxels=heat.values, affine=heat.affine) for heat in maps]
    sheets = heat_sheets(volumes)
    peaks = [peak_of(volume, reduced) for volume in volumes]
    first = next((i for i, heat in enumerate(maps) if heat.label == facts.first_label), 0)
    data = {
        "scan": sheet.record(),
        "extent": reduced.extent_mm,
        "opacity": OPACITY,
        "palette": base64.b64encode(palette().tobytes()).decode(),
        "maps": [
            {**own.record(), "label": heat.label, "peak": peak.index}
            for own, heat, peak in zip(sheets, maps, peaks, strict=True)
        ],
        "first": first,
    }
    heat_grey = grey_values(volumes[first], 0.0, 1.0, 128).grey
    planes = "\n".join(_plane(name, reduced, heat_grey, peaks[first], maps[first].label) for name in PLANES)
    flat = [heat.label for heat, peak in zip(maps, peaks, strict=True) if peak.is_flat]
    notes = [
        paragraph(f"The map of {', '.join(flat)} is flat: no place stands out.") if flat else "",
        paragraph(
            "Heat is where the classifier looked, not where disease is. The patient's right is on the left of axial "
            "and coronal pictures. Each map is scaled by itself: full colour is its own highest value."
        ),
        paragraph(said(reduced, sheet, sheets[0], how), "quiet"),
    ]
    return "\n".join(
        [
            f'<div id="viewer">{_controls(facts, [heat.label for heat in maps], first)}',
            f'<div class="planes">{planes}</div></div>',
            *notes,
            f'<script type="application/json" id="viewer-data">{_json_in_html(data)}</script>',
        ]
    )


def _json_in_html(data: dict[str, object]) -> str:
    """JSON without "<", so that no text in it can end its block."""
    return json.dumps(data).replace("<", "\\u003c")


def said(reduced: Reduced, sheet: Sheet, heat: Sheet, how: str) -> str:
    """What the page shows less of than the files hold."""
    before, after = (" × ".join(map(str, shape)) for shape in (reduced.shape_before, sheet.shape))
    smaller = f"reduced from {before} to {after} voxels" if before != after else f"{after} voxels"
    kind = "8 bit" if sheet.lossless else "8 bit, compressed with losses (JPEG)"
    finer = " × ".join(map(str, heat.shape))
    return (
        f"Shown here, not for reading the scan: {smaller}, {kind}, {how}, axes turned to the patient's nearest; "
        f"the heat on {finer} points, which the NIfTI of 'anymc3d explain' holds in full."
    )


def _controls(facts: StudyFacts, labels: list[str], first: int) -> str:
    chooser = ""
    if len(labels) > 1:
        options = "".join(
            f'<option value="{i}"{" selected" if i == first else ""}>{escape(name)}: '
            f"{facts.probabilities[name]:.2f}</option>"
            for i, name in enumerate(labels)
        )
        chooser = f'<p class="control"><label for="map">Heat of label</label><select id="map">{options}</select></p>'
    start = round(OPACITY * 100)
    return (
        f'<div class="controls" hidden>{chooser}<p class="control"><label for="opacity">Opacity of the heat</label>'
        f'<input type="range" id="opacity" min="0" max="100" step="5" value="{start}">'
        f'<output id="opacity-value" for="opacity">{start} %</output></p>'
        '<p class="control"><button type="button" id="to-peak">Go to the highest heat</button></p></div>'
    )


def _plane(name: str, scan: Reduced, heat: np.ndarray, peak: Peak, label: str) -> str:
    across = PLANES[name]
    count, index = scan.grey.shape[across], peak.index[across]
    picture = data_url(jpeg(still(name, scan, index, heat, STILL_PIXELS)), "jpeg")
    width, height = size_mm(name, scan.extent_mm)
    left, right, top, bottom = SIDES[name]
    alt = f"{name} plane, slice {index + 1} of {count}, with the heat of {label}"
    longest = max(width, height)
    frame = f"aspect-ratio:{width:.4g}/{height:.4g};max-width:{26 * width / longest:.1f}rem"
    # A slab of few slices has no room for the letters of its upper and lower edge.
    upright = (("top", top), ("bottom", bottom)) if height > width / 4 else ()
    sides = "".join(
        f'<span class="side {edge}" aria-hidden="true">{letter}</span>'
        for edge, letter in (("left", left), ("right", right), *upright)
    )
    return (
        f'<figure class="plane" data-plane="{name}"><figcaption>{name.capitalize()}</figcaption>'
        f'<div class="picture" style="{frame}"><img src="{picture}" alt="{escape(alt)}">'
        f"{sides}</div>"
        f'<p class="control"><label for="{name}-slice">Slice</label>'
        f'<input type="range" id="{name}-slice" min="1" max="{count}" value="{index + 1}" disabled>'
        f'<output for="{name}-slice">{index + 1} of {count}</output></p></figure>'
    )
