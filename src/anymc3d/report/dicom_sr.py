"""An answer as a DICOM structured report: Comprehensive 3D SR, TID 1500, by highdicom.

One report holds the answers of all plugins for one study: a measurement group for each label, with the finding, its
probability, the operating point and the decision there, which plugin said so, and the images that it looked at.
Sources: DICOM PS3.3 A.35.13; PS3.16 TID 1500, TID 1501 and TID 4019.
"""

from __future__ import annotations

import hashlib
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anymc3d.data.case import Case
from anymc3d.data.dicom.references import SourceSeries
from anymc3d.data.dicom.tags import foreign_errors
from anymc3d.errors import ScanError
from anymc3d.explain.dicom_sources import CODES, quiet, shortened, sources_of, stand_ins, uid
from anymc3d.files import atomic
from anymc3d.page.document import RESEARCH_ONLY
from anymc3d.plugins import Plugin
from anymc3d.predict.ood_warnings import NOT_TO_BE_USED, says_unlike
from anymc3d.report.finding_codes import FindingCode
from anymc3d.report.study import threshold_of
from anymc3d.settings.decision_text import what_is_positive
from anymc3d.version import __version__

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

SERIES_NUMBER = 9010
_CODE = re.compile(r"[A-Za-z0-9_.-]{1,16}")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What a plugin says of one label. ``threshold``: the probability of the operating point; None where the largest
    probability decides."""

    label: str
    probability: float
    logit: float
    decision: int
    threshold: float | None
    point: str
    """The operating point's name; empty where the plugin has none of its own."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One plugin's answer for one case, with what identifies the plugin."""

    plugin: str
    hash: str
    status: str
    message: str
    meaning: str
    """What a decision of 1 stands for."""
    calibrated: bool
    findings: tuple[Finding, ...]


def answer_of(plugin: Plugin, row: Mapping[str, Any]) -> Answer:
    """A row of ``predictions.csv``, as text or with numbers, as an answer; an error row has no findings."""
    card, findings = plugin.card, []
    for label in card.labels.output_names if row["status"] != "error" else ():
        point, threshold = threshold_of(card, label)
        findings.append(
            Finding(
                label=label,
                probability=float(row[f"probability.{label}"]),
                logit=float(row[f"logit.{label}"]),
                decision=int(row[f"decision.{label}"]),
                threshold=threshold,
                point="" if point is None else point.name,
            )
        )
    return Answer(
        plugin=card.name,
        hash=plugin.hash,
        status=row["status"],
        message=row["message"],
        meaning=what_is_positive(card.labels),
        calibrated=card.is_calibrated,
        findings=tuple(findings),
    )


Part = tuple[Case, Sequence[Answer]]
"""A case, whose images are DICOM series, and the answers for it."""


def write_report(
    path: Path, parts: Sequence[Part], *, link: str, codes: Mapping[str, FindingCode] | None = None
) -> None:
    """Write one report of a study, atomically.

    Args:
        parts: of one study; several where plugins were given several of its series. Those without an answer are left
            out.
        link: an entry of :data:`anymc3d.explain.dicom_objects.LINKS`.
        codes: label -> the code of its finding; a label without one gets a code of this program's own scheme.

    Raises:
        ScanError: a series lacks identifiers, or its scans are of several studies.
    """
    known = [
        _AnsweredPart(case, tuple(sources_of(case, with_patient=link == "patient", resampled=True).values()), answered)
        for case, answers in parts
        if (answered := tuple(answer for answer in answers if answer.findings))
    ]
    if len({source.study_uid for part in known for source in part.sources}) > 1:
        raise ScanError("the scans are of several studies, and one structured report belongs to one")
    with foreign_errors("study", "no structured report can be made of it"), quiet():
        content = io.BytesIO()
        _report(known, link, codes or {}).save_as(content)
    atomic.write_bytes(path, content.getvalue())


@dataclass(frozen=True)
class _AnsweredPart:
    """A part with the series behind it."""

    case: Case
    sources: tuple[SourceSeries, ...]
    answers: tuple[Answer, ...]

    @property
    def images(self) -> list[Any]:
        return [image for source in self.sources for image in _source_images(source)]


def _report(parts: Sequence[_AnsweredPart], link: str, codes: Mapping[str, FindingCode]) -> Dataset:
    import highdicom as hd
    from pydicom.sr.codedict import codes as standard

    case, answers = parts[0].case, [answer for part in parts for answer in part.answers]
    sources = {source.series_uid: source for part in parts for source in part.sources}
    digest = hashlib.sha256(repr((answers, sorted(codes.items()), __version__)).encode()).hexdigest()
    key = (link, case.id, *sources, digest)
    groups = [
        _group(answer, finding, part.images, uid("finding", *key, answer.hash, finding.label), codes.get(finding.label))
        for part in parts
        for answer in part.answers
        for finding in answer.findings
    ]
    report = hd.sr.MeasurementReport(
        observation_context=_observer(answers),
        procedure_reported=standard.cid100.ImagingProcedure,
        imaging_measurements=groups,
    )
    report[0].ContentSequence.append(_comment(RESEARCH_ONLY))
    return hd.sr.Comprehensive3DSR(
        evidence=[dataset for source in sources.values() for dataset in stand_ins(source, case.id)],
        content=report[0],
        series_instance_uid=uid("series", "sr", *key),
        series_number=SERIES_NUMBER,
        sop_instance_uid=uid("object", "sr", *key),
        instance_number=1,
        manufacturer="anymc3d",
        manufacturer_model_name="anymc3d",
        software_versions=__version__,
        device_serial_number="none",
        is_complete=True,
        is_final=False,
        series_description=shortened(f"RESEARCH ONLY {', '.join(answer.plugin for answer in answers)}"),
        specific_character_set="ISO_IR 192",
    )


def _observer(answers: Sequence[Answer]) -> Any:
    """Who observed: a device, which is the plugins together, by the hashes of their files."""
    import highdicom as hd
    from pydicom.sr.codedict import codes as standard

    hashes = [answer.hash for answer in answers]
    device = hd.sr.DeviceObserverIdentifyingAttributes(
        uid=uid("device", *hashes),
        name=shortened(", ".join(answer.plugin for answer in answers)),
        manufacturer_name="anymc3d",
        model_name=f"anymc3d {__version__}",
        serial_number=shortened(hashes[0] if len(hashes) == 1 else _digest(hashes)),
    )
    return hd.sr.ObservationContext(
        observer_device_context=hd.sr.ObserverContext(
            observer_type=standard.DCM.Device, observer_identifying_attributes=device
        )
    )


def _group(answer: Answer, finding: Finding, images: Sequence[Any], tracking: str, code: FindingCode | None) -> Any:
    """TID 1501 for one label."""
    import highdicom as hd
    from pydicom.sr.codedict import codes as standard

    concept = hd.sr.CodedConcept
    private = FindingCode(value=private_code(finding.label), scheme=CODES, meaning=shortened(finding.label))
    what = code or private
    algorithm = hd.sr.AlgorithmIdentification(
        name=shortened(answer.plugin),
        version=f"anymc3d {__version__}",
        family=standard.DCM.ArtificialIntelligence,
        parameters=[f"plugin sha256 {answer.hash}", *_decides(finding)],
        manufacturer="anymc3d",
    )
    decisions = (standard.SCT.Negative, standard.SCT.Positive)
    measured = [(standard.DCM.Probability, finding.probability)]
    measured += [] if finding.threshold is None else [(standard.DCM.ThresholdValue, finding.threshold)]
    measured.append((concept("LOGIT", CODES, "Logit before calibration"), finding.logit))
    group = hd.sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(uid=tracking, identifier=shortened(finding.label)),
        finding_category=concept("ANSWER", CODES, "Answer of a classifier, research use only"),
        finding_type=concept(what.value, what.scheme, what.meaning),
        algorithm_id=algorithm,
        measurements=[
            hd.sr.Measurement(name=name, value=value, unit=standard.UCUM.NoUnits)
            for name, value in measured
            if math.isfinite(value)
        ],
        qualitative_evaluations=[
            hd.sr.QualitativeEvaluation(
                concept("DECISION", CODES, "Decision at the operating point"), decisions[finding.decision]
            )
        ],
        source_images=images,
    )
    group[0].ContentSequence.append(_comment(_in_words(answer, finding)))
    return group


def _decides(finding: Finding) -> list[str]:
    if finding.threshold is None:
        return ["operating point: the class with the largest probability"]
    return [f"operating point {finding.point or 'default'}: probability {finding.threshold:.6g} or more"]


def _in_words(answer: Answer, finding: Finding) -> str:
    """For viewers that show text alone."""
    kind = "" if answer.calibrated else " (not calibrated)"
    parts = [NOT_TO_BE_USED] if says_unlike(answer.message) else []
    parts += [f"{finding.label}: probability {finding.probability:.3f}{kind}", answer.meaning]
    parts += [f"Warnings: {answer.message}"] if answer.message else []
    return f"{'. '.join(parts)}. {RESEARCH_ONLY}"


def _comment(text: str) -> Any:
    import highdicom as hd
    from pydicom.sr.codedict import codes as standard

    return hd.sr.TextContentItem(
        name=standard.DCM.Comment, value=text[:1024], relationship_type=hd.sr.RelationshipTypeValues.CONTAINS
    )


def _source_images(source: SourceSeries) -> list[Any]:
    import highdicom as hd

    if source.is_enhanced:
        frames = [int(entry.frame_number or 0) for entry in source.slices]
        return [hd.sr.SourceImageForMeasurementGroup(source.sop_class, source.slices[0].sop_uid, frames)]
    return [hd.sr.SourceImageForMeasurementGroup(source.sop_class, entry.sop_uid) for entry in source.slices]


def private_code(label: str) -> str:
    """A code value of at most 16 letters that stands for a label in this program's own scheme."""
    return label if _CODE.fullmatch(label) else _digest([label])[:16]


def _digest(texts: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(texts).encode("utf-8", "surrogateescape")).hexdigest()
