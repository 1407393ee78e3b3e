"""The structured reports of a prediction run: ``OUT/sr/<case>.dcm``, one for each case that has an answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from anymc3d.data.case import Case
from anymc3d.errors import ScanError
from anymc3d.explain.folder import file_name
from anymc3d.files.containment import inside
from anymc3d.predict.predictor import Predictor
from anymc3d.report.dicom_sr import answer_of, write_report
from anymc3d.report.finding_codes import FindingCode

FOLDER = "sr"


@dataclass(frozen=True)
class Written:
    """How many reports were written, and case id -> why it has none although it has an answer."""

    count: int
    failed: Mapping[str, str]


def write_reports(
    predictor: Predictor,
    cases: Sequence[Case],
    rows: Sequence[Mapping[str, str]],
    out: Path,
    *,
    link: str,
    codes: Mapping[str, FindingCode] | None = None,
) -> Written:
    """Write a report for each case, from the rows of a run; the report of an earlier run is replaced.

    Raises:
        OutputError: a file cannot be written.
    """
    known = {plugin.card.name: plugin for plugin in predictor.plugins}
    folder, count, failed = out / FOLDER, 0, {}
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for case in cases:
        case_rows = [row for row in rows if row["case"] == case.id]
        answers = [answer_of(known[row["plugin"]], row) for row in case_rows]
        path = inside(folder, f"{file_name(case.id)}.dcm")
        if not any(answer.findings for answer in answers):
            path.unlink(missing_ok=True)  # of an earlier run, in which the case had an answer
            continue
        try:
            write_report(path, [(predictor.scans(case).case, answers)], link=link, codes=codes)
            count += 1
        except ScanError as error:
            failed[case.id] = error.what
    return Written(count, failed)
