"""``--dicom-sr`` and ``--sr-codes`` of ``anymc3d predict``."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from anymc3d.cli.say import say, show
from anymc3d.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from anymc3d.data.case import Case
    from anymc3d.predict.predictor import Predictor


def check_dicom_sr(args: argparse.Namespace) -> None:
    """Refuse what does not fit, before anything is loaded.

    Raises:
        UsageError: an unknown link, ``--pseudonymize`` beside it, codes that cannot be used, or no highdicom.
    """
    if args.dicom_sr is None:
        if args.sr_codes is not None:
            raise UsageError("--sr-codes: only together with --dicom-sr")
        return
    from anymc3d.explain.dicom_objects import LINKS, require_highdicom
    from anymc3d.report.finding_codes import read_codes

    if args.dicom_sr not in LINKS:
        hint = did_you_mean(args.dicom_sr, LINKS)
        raise UsageError(f"--dicom-sr: unknown {args.dicom_sr!r}{hint}; have {', '.join(LINKS)}")
    if args.pseudonymize is not None:
        raise UsageError(
            "--dicom-sr: its reports hold the UIDs of the scans, which lead to the patient; not together with "
            "--pseudonymize"
        )
    require_highdicom("--dicom-sr")
    if args.sr_codes is not None:
        read_codes(args.sr_codes)


def check_sr_cases(args: argparse.Namespace, cases: Sequence[Case]) -> None:
    """Refuse scans that no DICOM object can refer to.

    Raises:
        UsageError: a scan is no DICOM.
    """
    if args.dicom_sr is not None:
        from anymc3d.explain.dicom_objects import refuse_other_sources

        refuse_other_sources(cases, "--dicom-sr", "predict")


def write_sr(
    args: argparse.Namespace, out: Path, predictor: Predictor, cases: Sequence[Case], rows: Sequence[Mapping[str, str]]
) -> bool:
    """Write the reports of a run into ``out``, and say what could not be written; whether all could."""
    from anymc3d.report.finding_codes import read_codes
    from anymc3d.report.sr_folder import FOLDER, write_reports

    codes = None if args.sr_codes is None else read_codes(args.sr_codes)
    written = write_reports(predictor, cases, rows, out, link=args.dicom_sr, codes=codes)
    for case, reason in written.failed.items():
        show(f"{case}: no structured report: {reason}")
    if not (args.json or args.quiet):
        say(f"{out / FOLDER}: {written.count} structured reports (DICOM SR)")
    return not written.failed
