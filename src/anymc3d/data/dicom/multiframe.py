"""The frames of one file: the slice of a plain file, or every frame of an enhanced CT or MR with its own geometry.

In an enhanced file whatever varies stands in one item per frame, whatever does not in one shared item; each is looked
up in that order. Source: DICOM PS3.3, C.7.6.16 (multi-frame functional groups).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from anymc3d.data.dicom.tags import APART_TAGS, RULE_TAGS, Tags

MAX_FRAMES = 100_000
_FRAME_TAGS = {
    "ComplexImageComponent": ("MRImageFrameTypeSequence", "ComplexImageComponent"),
    "AcquisitionNumber": ("FrameContentSequence", "FrameAcquisitionNumber"),
    "DiffusionBValue": ("MRDiffusionSequence", "DiffusionBValue"),
    "EchoTime": ("MREchoSequence", "EffectiveEchoTime"),
    "StackID": ("FrameContentSequence", "StackID"),
    "TemporalPositionIndex": ("FrameContentSequence", "TemporalPositionIndex"),
    "TriggerTime": ("CardiacSynchronizationSequence", "NominalCardiacTriggerDelayTime"),
}
"""Rule keyword -> where a frame of an enhanced file says it."""
_FRAME_TYPES = ("CTImageFrameTypeSequence", "MRImageFrameTypeSequence", "PETFrameTypeSequence")


@dataclass(frozen=True)
class Frame:
    """One slice: where it lies (LPS millimetres, as DICOM says it) and how its numbers become units."""

    position: tuple[float, ...] | None
    """Centre of the first pixel."""
    orientation: tuple[float, ...] | None
    """Direction along a row (towards larger columns), then down a column."""
    pixel_spacing: tuple[float, ...] | None
    """Between rows, then between columns."""
    thickness: float | None
    slope: float | None
    intercept: float | None
    rescale_type: str
    tags: Mapping[str, str]
    """Keyword -> text, of ``RULE_TAGS`` and ``APART_TAGS`` in :mod:`~anymc3d.data.dicom.tags`."""
    number: int | None = field(default=None, compare=False)
    """InstanceNumber, or the place in an enhanced file: an order where nothing better separates volumes or stacks."""


def frames_of(tags: Tags, kind: str) -> tuple[Frame, ...]:
    """The frames of a file of this kind, in stored order; none for what is no scan. Faults go to ``tags.faults``."""
    if kind == "slice":
        return _single(tags)
    return _enhanced(tags) if kind == "frames" else ()


def _single(tags: Tags) -> tuple[Frame, ...]:
    count = tags.integer("NumberOfFrames", default=1)
    if count != 1:
        tags.faults.append(f"it holds {count} frames without a position each; convert it with its vendor's tools")
    number = tags.text("InstanceNumber")
    return (_frame(tags, tags, tags, tags, {}, int(number) if number.isdigit() and len(number) < 12 else None),)


def _enhanced(tags: Tags) -> tuple[Frame, ...]:
    count = tags.integer("NumberOfFrames")
    items = tags.items("PerFrameFunctionalGroupsSequence")
    if not 1 <= count <= MAX_FRAMES or len(items) != count:
        tags.faults.append(f"NumberOfFrames is {count}, {len(items)} frames are described")
        return ()
    shared = tags.item("SharedFunctionalGroupsSequence")
    common = rule_texts(tags)
    return tuple(_enhanced_frame(item, shared, common, tags.faults, k + 1) for k, item in enumerate(items))


def _enhanced_frame(
    item: Tags, shared: Tags | None, common: Mapping[str, str], faults: list[str], number: int
) -> Frame:
    nothing = Tags({}, faults)

    def group(name: str) -> Tags:
        return item.item(name) or (shared.item(name) if shared else None) or nothing

    texts = dict(common)
    texts |= {name: text for name, (where, what) in _FRAME_TAGS.items() if (text := group(where).text(what))}
    kinds = [text for where in _FRAME_TYPES if (text := group(where).text("FrameType"))]
    texts |= {"ImageType": kinds[0]} if kinds else {}
    measures = group("PixelMeasuresSequence")
    return _frame(
        group("PlanePositionSequence"),
        group("PlaneOrientationSequence"),
        measures,
        group("PixelValueTransformationSequence"),
        texts,
        number,
    )


def _frame(
    place: Tags, orientation: Tags, measures: Tags, rescale: Tags, texts: Mapping[str, str], number: int | None
) -> Frame:
    thickness = measures.numbers("SpacingBetweenSlices", 1, required=False)
    thickness = thickness or measures.numbers("SliceThickness", 1, required=False)
    slope = rescale.numbers("RescaleSlope", 1, required=False)
    intercept = rescale.numbers("RescaleIntercept", 1, required=False)
    if (slope is None) != (intercept is None):
        rescale.faults.append("RescaleSlope and RescaleIntercept must come together")
    if slope == (0.0,):
        rescale.faults.append("RescaleSlope is 0")
    return Frame(
        position=place.numbers("ImagePositionPatient", 3),
        orientation=orientation.numbers("ImageOrientationPatient", 6),
        pixel_spacing=measures.numbers("PixelSpacing", 2),
        thickness=thickness[0] if thickness else None,
        slope=slope[0] if slope else None,
        intercept=intercept[0] if intercept else None,
        rescale_type=rescale.text("RescaleType"),
        tags=texts or rule_texts(place),
        number=number,
    )


def rule_texts(tags: Tags) -> dict[str, str]:
    """Keyword -> text of every tag that a ``series`` rule may ask for, or that separates volumes, where the file has
    it."""
    texts = {name: text for name in (*RULE_TAGS, *APART_TAGS) if (text := tags.text(name))}
    if texts.get("Modality") == "MR" and (value := tags.b_value()):
        texts["DiffusionBValue"] = value
    return texts
