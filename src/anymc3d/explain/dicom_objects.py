"""A heatmap as DICOM: a parametric map (its values) and a segmentation (values at or above a threshold), by highdicom.

Frame k of either lies where slice k of the source lies and refers to it: no voxel is moved. UIDs are made of what
goes in, so that the same map is the same object however often it is written. Source: DICOM PS3.3, A.75 and A.51.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from anymc3d.data.case import Case
from anymc3d.data.dicom.references import SourceSeries
from anymc3d.data.dicom.tags import foreign_errors
from anymc3d.data.readers import takes_series
from anymc3d.errors import PackageError, ScanError, UsageError
from anymc3d.explain.dicom_sources import CODES, quiet, shortened, sources_of, stand_ins, uid
from anymc3d.explain.heatmaps import Heatmap
from anymc3d.files import atomic
from anymc3d.files.containment import inside
from anymc3d.version import __version__

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

LINKS: Mapping[str, str] = {
    "linked": "UIDs of the scan, so that it lies over it; the case id stands for the patient",
    "patient": "also name, id, dates and accession number of the scan, so that an archive files it beside the scan",
}
"""What of the scan's identifiers goes into the objects."""
THRESHOLD = 0.5
MAP_ENDING, SEGMENTATION_ENDING = ".map.dcm", ".seg.dcm"
_SERIES_NUMBER = 9000
_SHORT_TEXT = 16


@dataclass(frozen=True, kw_only=True)
class DicomSettings:
    """``link``: an entry of :data:`LINKS`; ``threshold``: of the segmentation, above 0 and at most 1."""

    link: str
    threshold: float = THRESHOLD


def require_highdicom(option: str = "--dicom") -> None:
    """Say which package is missing, before any work.

    Raises:
        UsageError: highdicom is not installed.
    """
    try:
        import highdicom  # noqa: F401
    except ImportError:
        raise PackageError(
            f"{option}: needs the package highdicom, which is not installed: pip install 'anymc3d[dicom]'"
        ) from None


def refuse_other_sources(cases: Sequence[Case], option: str = "--dicom", does: str = "explain") -> None:
    """DICOM objects refer to DICOM slices.

    Raises:
        UsageError: a scan is no folder; named by its case and column.
    """
    for case in cases:
        for column, reference in case.images.items():
            if not takes_series(reference):
                raise UsageError(
                    f"{option}: expected DICOM series, but {column} of case {case.id!r} is none, so that no DICOM "
                    f"object can refer to it: leave out {option}, or {does} the DICOM series themselves"
                )


class DicomWriter:
    """Writes the heatmaps of one case. The headers of its scans are read first: what cannot be done costs no time.

    Raises:
        ScanError: a series lacks identifiers, or cannot be read.
    """

    def __init__(self, case: Case, settings: DicomSettings, plugin_hash: str) -> None:
        self._case, self._settings, self._plugin = case, settings, plugin_hash
        self._sources = sources_of(case, with_patient=settings.link == "patient")

    def source(self, column: str) -> SourceSeries:
        """The series behind an image column."""
        return self._sources[column]

    def write(self, folder: Path, stem: str, heat: Heatmap, kinds: Collection[str] = ("map", "seg")) -> list[str]:
        """Write these kinds of objects and return their names; of a map without any voxel at the threshold no
        segmentation is made.

        Raises:
            ScanError: the series holds what DICOM objects cannot repeat.
        """
        source = self._sources[heat.column]
        frames = np.ascontiguousarray(heat.values.transpose(2, 1, 0))
        if frames.shape != (len(source.slices), source.rows, source.columns):
            raise ScanError(f"{heat.column}: the series changed while it was explained; start again")
        above = frames >= np.float32(self._settings.threshold)
        makers: dict[str, Callable[[], Dataset]] = {}
        if "map" in kinds:
            makers[f"{stem}{MAP_ENDING}"] = lambda: self._parametric_map(source, frames, heat)
        if "seg" in kinds and above.any():
            makers[f"{stem}{SEGMENTATION_ENDING}"] = lambda: self._segmentation(source, above, heat)
        for name, make in makers.items():
            with foreign_errors(heat.column, "no DICOM object can be made of this series"), quiet():
                content = io.BytesIO()
                make().save_as(content)
            atomic.write_bytes(inside(folder, name), content.getvalue())
        return list(makers)

    def _parametric_map(self, source: SourceSeries, frames: NDArray[np.float32], heat: Heatmap) -> Dataset:
        import highdicom as hd
        from pydicom.sr.codedict import codes

        meaning = hd.pm.RealWorldValueMapping(
            lut_label=heat.label[:_SHORT_TEXT],
            lut_explanation=shortened(f"Heatmap of {heat.label}: lowest 0, highest 1"),
            unit=codes.UCUM.NoUnits,
            value_range=(0.0, 1.0),
            slope=1.0,
            intercept=0.0,
            quantity_definition=hd.sr.CodedConcept("HEAT", CODES, "Heatmap of a classifier"),
        )
        dataset = hd.pm.ParametricMap(
            stand_ins(source, self._case.id),
            frames,
            real_world_value_mappings=[meaning],
            voi_lut_transformations=[hd.VOILUTTransformation(window_center=0.5, window_width=1.0)],
            contains_recognizable_visual_features=False,
            content_label="HEAT",
            **self._common(source, heat, "map"),
        )
        dataset.Laterality = ""  # not known here; a validator wants it of a map, and not of a segmentation
        return _finished(dataset, source)

    def _segmentation(self, source: SourceSeries, above: NDArray[np.bool_], heat: Heatmap) -> Dataset:
        import highdicom as hd
        from pydicom.sr.codedict import codes

        threshold = f"{self._settings.threshold:g}"
        segment = hd.seg.SegmentDescription(
            segment_number=1,
            segment_label=shortened(f"Heatmap of {heat.label} at or above {threshold}"),
            segmented_property_category=hd.sr.CodedConcept("ATTENTION", CODES, "Where a classifier looked"),
            segmented_property_type=hd.sr.CodedConcept("HEAT", CODES, "Heatmap of a classifier"),
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=hd.AlgorithmIdentificationSequence(
                name=f"anymc3d {heat.method}",
                family=codes.DCM.ArtificialIntelligence,
                version=__version__,
                parameters={"threshold": threshold},
            ),
            display_color=hd.color.CIELabColor(67.0, 43.0, 74.0),
        )
        dataset = hd.seg.Segmentation(
            stand_ins(source, self._case.id),
            above.astype(np.uint8),
            segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=[segment],
            omit_empty_frames=False,
            content_label="HEAT_ABOVE",
            **self._common(source, heat, f"segmentation {threshold}"),
        )
        return _finished(dataset, source)

    def _common(self, source: SourceSeries, heat: Heatmap, kind: str) -> dict[str, Any]:
        what = "heatmap" if kind == "map" else f"heatmap above {self._settings.threshold:g}"
        key = (self._settings.link, self._case.id, source.series_uid, self._plugin, kind, heat.label, heat.view)
        key = (*key, heat.method, hashlib.sha256(np.ascontiguousarray(heat.values).tobytes()).hexdigest())
        return {
            "series_instance_uid": uid("series", *key),
            "series_number": _SERIES_NUMBER + (kind != "map"),
            "sop_instance_uid": uid("object", *key),
            "instance_number": 1,
            "manufacturer": "anymc3d",
            "manufacturer_model_name": "anymc3d explain",
            "software_versions": __version__,
            "device_serial_number": "none",
            "content_description": "Where the classifier looked, not disease. Research use only.",
            "series_description": shortened(f"RESEARCH ONLY {what}: {heat.label}, {heat.view}, {heat.method}"),
            "specific_character_set": "ISO_IR 192",
        }


def _finished(dataset: Dataset, source: SourceSeries) -> Dataset:
    """Of an enhanced source: let each frame refer to the frame of the file, not to its place in the order of slices."""
    if source.is_enhanced:
        for frame in dataset.PerFrameFunctionalGroupsSequence:
            for derived in frame.DerivationImageSequence:
                for reference in derived.SourceImageSequence:
                    entry = source.slices[int(reference.ReferencedFrameNumber) - 1]
                    reference.ReferencedFrameNumber = entry.frame_number
    return dataset
