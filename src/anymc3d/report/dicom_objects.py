"""All DICOM objects of one study and plugin: parametric map, segmentation and secondary capture of each heatmap."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from anymc3d.data.case import Case
from anymc3d.explain.dicom_objects import DicomSettings, DicomWriter
from anymc3d.explain.folder import file_name, heat_stem
from anymc3d.explain.grey import grey_of
from anymc3d.explain.heatmaps import Heatmap
from anymc3d.files.containment import inside
from anymc3d.pictures.colours import Colour
from anymc3d.pictures.scan import heat_sheet
from anymc3d.predict.ood_warnings import NOT_TO_BE_USED
from anymc3d.report.dicom_capture import ENDING, write_capture
from anymc3d.report.study import StudyFacts


def write_heat_objects(
    facts: StudyFacts, case: Case, folder: Path, settings: DicomSettings, kinds: Collection[str]
) -> list[str]:
    """Write the objects of all heatmaps beside each other and return their names.

    Args:
        case: with the columns of the plugin; its images are DICOM series.
        kinds: of ``map``, ``seg``, ``capture``.

    Raises:
        ScanError: a series was resampled, so that no map can lie over its slices, or lacks identifiers.
    """
    writer = DicomWriter(case, settings, facts.plugin_hash)
    names = []
    for heat in (*facts.maps, *facts.others):
        stem = f"{file_name(facts.plugin)}.{heat_stem(heat)}"
        names += writer.write(folder, stem, heat, kinds)
        if "capture" not in kinds:
            continue
        names.append(f"{stem}{ENDING}")
        title = f"heatmap over scan: {heat.label}, {heat.view}"
        write_capture(
            inside(folder, names[-1]), _picture(facts, heat), writer.source(heat.column), case=case.id, title=title
        )
    return names


def _picture(facts: StudyFacts, heat: Heatmap) -> Colour:
    """As in ``explain``, but without the case id, which an archive may hold a patient's number in."""
    scan = facts.scans[heat.column]
    assert facts.card is not None
    low, high, how = grey_of(facts.card, heat.column, scan)
    use = f"{NOT_TO_BE_USED} · " if facts.unlike_training else ""
    title = f"{use}{facts.plugin} · {heat.label}: probability {facts.probabilities[heat.label]:.2f} · {heat.method}"
    caption = f"{how[0].upper()}{how[1:]}. Research use only. Not a medical device."
    return heat_sheet(scan, (heat.values, heat.affine), grey=(low, high), title=title, caption=caption)
