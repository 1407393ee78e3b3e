"""``auto``: a manifest in, the best ensemble that fits the time out.

The order of work is the order of :func:`auto`: cases, doctor, plan, simple candidates and a first answer, further
candidates as long as the time lasts, training of the best, blend, test split, files.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from anymc3d.automl import page
from anymc3d.automl.checks import check_examined
from anymc3d.automl.clock import Clock, in_words
from anymc3d.automl.data import AutoData, plan_all, read_data
from anymc3d.automl.deadline import Deadline
from anymc3d.automl.embedded import DEFAULT_BACKBONE, Source, open_sources, read_folders
from anymc3d.automl.embedded_answers import EmbeddedTestCases
from anymc3d.automl.folder import KIND, AutoFolder, Remembered
from anymc3d.automl.numbers import Reader
from anymc3d.automl.reserve import Reserve
from anymc3d.automl.scoring import TestCases
from anymc3d.automl.settings import AutoSettings
from anymc3d.automl.sites import leave_sites_out
from anymc3d.automl.steps import (
    embedded_candidates,
    first_candidates,
    further_candidates,
    late_candidates,
    without_test,
)
from anymc3d.automl.training import train_best
from anymc3d.automl.work import Work
from anymc3d.automl.write import Written, clinical_of, write_pages, write_plugin
from anymc3d.cost.device import choose_device
from anymc3d.data.covariates import column_of
from anymc3d.data.preprocess import CODE_VERSION
from anymc3d.doctor.examine import examine
from anymc3d.errors import ManifestError, UsageError
from anymc3d.files.folders import claim, locked
from anymc3d.plan.region import asked_region
from anymc3d.segmenters.store import stored_region
from anymc3d.settings.plain import to_plain
from anymc3d.settings.views import RoiSettings
from anymc3d.train.stopping import StopRequest, listening

logger = logging.getLogger(__name__)

MANY_SCANS = 100
"""From which on the doctor reads in processes of its own, with its limits of time and memory a scan."""
SITES_SHARE = 0.93
"""Of the budget, by which the leave-one-site-out numbers must be there."""
OVERRUN = 0.07
"""Of the budget, that the test split may take beyond it."""


def auto(
    manifest: Path | str,
    labels: Sequence[str] | str,
    out: Path | str,
    *,
    minutes: float = 30.0,
    backbone: str | None = None,
    device: str = "auto",
    leave_out: str | None = None,
    covariates: Sequence[str] | str = (),
    kind: str | None = None,
    embeddings: Sequence[Path | str] | Path | str = (),
    roi: Path | str | RoiSettings | None = None,
    segmenters: Sequence[Path | str] = (),
    settings: AutoSettings | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Find the best classifier of ``manifest`` within ``minutes`` and leave it in ``out``; return ``auto.json``.

    The same call resumes, or finds that all is done. Cases of the ``test`` split are scored once,
    at the end.

    Args:
        manifest: CSV or MedMNIST ``.npz``.
        labels: one label column, or several of 0/1.
        out: folder; created if needed.
        minutes: the whole budget.
        backbone: name, folder or file; default ``dinov2-small``, with ``embeddings`` the one that made them.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        leave_out: the column whose values are left out one by one; default ``site``, where there is one.
        covariates: columns that may answer beside the image, such as ``("age", "sex")``.
        kind: what the labels are, where that is in doubt: ``binary``, ``multiclass``, ``ordinal``, ``multilabel`` or
            ``regression`` (a number).
        embeddings: folders of ``anymc3d embed`` in place of the scans, none of which is read or has to be there.
        roi: a YAML file, or settings, of a region that every scan is also shown cropped to (docs/auto.md).
        segmenters: files of networks, or the TotalSegmentator program, that may draw it.
        settings: everything else.
        quiet: no progress bars.

    Raises:
        AnyMC3DError: manifest, labels, scans, backbone or folder cannot be used, or the budget is too small.
        InterruptedRunError: a stop was asked for; what is computed is kept.
    """
    settings = replace(settings or AutoSettings(), minutes=minutes)
    columns, covariate_names, region = _names(labels), _names(covariates), _region(roi, _paths(embeddings))
    folder, embedded = AutoFolder(Path(out)), read_folders(_paths(embeddings), covariate_names)
    more = {"covariates": covariate_names, "kind": kind, "check_scans": not embedded, "drawn": region}
    data = read_data(Path(manifest), columns, settings, leave_out, segmenters=segmenters, **more)
    sources = open_sources(embedded, backbone, data)
    backbone = backbone or (sources[0].name if sources else DEFAULT_BACKBONE)
    with locked(folder.path), listening() as stop:
        claim(folder.record, _identity(data, settings, backbone, sources), "an anymc3d auto run")
        remembered = Remembered.read(folder.progress)
        if remembered.finished:
            logger.info("%s is finished; nothing to do", folder.path)
            return page.read_summary(folder)
        work = _begun(folder, settings, remembered, data, stop, choose_device(device), quiet=quiet)
        work.notes += _examined(data, columns, tables_only=bool(sources))
        _search(work, sources, backbone, device)
        return _finish(work, device, sources)


def _begun(
    folder: AutoFolder,
    settings: AutoSettings,
    remembered: Remembered,
    data: AutoData,
    stop: StopRequest,
    device: torch.device,
    *,
    quiet: bool,
) -> Work:
    """Nothing done yet; the clock goes on from what earlier runs of the same command spent."""
    clock = Clock(60 * settings.minutes, remembered.spent_s)
    stopper = Deadline(stop, clock)
    reader = Reader(data, device, stopper, quiet)
    work = Work(folder, settings, clock, remembered, data, reader, {}, reserve=Reserve(settings.most_members))
    stopper.beat = work.beat
    return work


def _search(work: Work, sources: Sequence[Source], backbone: str, device: str) -> None:
    """Every candidate: of folders of embeddings where there are any, otherwise of the scans."""
    if sources:
        work.planned = {("own", "whole"): sources[0].task(work.data)}
        embedded_candidates(work, sources)
        return
    work.planned = plan_all(work.data, backbone)
    first_candidates(work, backbone)
    further_candidates(work, backbone)
    train_best(work, device)
    late_candidates(work, backbone)


def _paths(given: Sequence[Path | str] | Path | str) -> list[Path]:
    return [Path(path) for path in ([given] if isinstance(given, (str, Path)) else given)]


def _region(roi: Path | str | RoiSettings | None, embeddings: Sequence[Path]) -> RoiSettings | None:
    """The region that was asked for, with its model in the store."""
    asked = asked_region(roi)
    if asked is None:
        return None
    if embeddings:
        raise UsageError(
            "--roi: a region is cut out of scans, and with --embeddings none is read; leave one of them out"
        )
    return stored_region(asked)


def _names(given: Sequence[str] | str) -> tuple[str, ...]:
    return tuple(name.strip() for name in (given.split(",") if isinstance(given, str) else given) if name.strip())


def _identity(data: AutoData, settings: AutoSettings, backbone: str, sources: Sequence[Source]) -> dict[str, Any]:
    cases = "\n".join(
        f"{case.id}|{case.patient}|{case.split}|{case.fold}|{row.tolist() if case.split != 'test' else ''}"
        + "".join(f"|{case.cells.get(column_of(name), '')}" for name in data.covariates)
        for case, row in zip(data.manifest.cases, data.targets, strict=True)
    )
    return {
        "kind": KIND,
        "labels": list(data.labels.columns),
        "settings": asdict(settings),
        "backbone": Path(backbone).name,
        "cases": hashlib.sha256(cases.encode()).hexdigest(),
        "leave_out": data.site,
        **({"covariates": list(data.covariates)} if data.covariates else {}),
        **({"labels_kind": data.labels.kind} if data.labels.kind in ("ordinal", "regression") else {}),
        **({"roi": to_plain(data.drawn)} if data.drawn is not None else {}),
        **({"embeddings": [source.identity for source in sources]} if sources else {}),
        "preprocessing_version": CODE_VERSION,
    }


def _examined(data: AutoData, columns: Sequence[str], *, tables_only: bool) -> list[str]:
    """What the doctor warns of; its errors end the run."""
    scans = sum(len(case.images) for case in data.manifest.cases)
    processes = len(os.sched_getaffinity(0)) if scans >= MANY_SCANS else 0
    common = {"labels": columns, "meaning": data.labels, "tables_only": tables_only}
    warnings = check_examined(examine(data.manifest.path, **common, processes=processes))
    for line in warnings:
        logger.warning("%s", line)
    return warnings


def _test_cases(work: Work, written: Written, device: str, sources: Sequence[Source]) -> TestCases | None:
    """The test split and the plugin that answers it; None where folders of embeddings do not have it."""
    write_pages(work, written, final=False)
    if not sources:
        return TestCases(work.folder, work.data, device, quiet=work.reader.quiet)
    try:
        return EmbeddedTestCases(work.folder, work.data, device, sources, quiet=work.reader.quiet)
    except ManifestError as error:
        work.note(without_test(work, f"{len(error.problems) - 1} of its {len(work.data.test)} cases are not embedded"))
        return None


def _leave_sites_out(work: Work) -> None:
    """The numbers for which each site is left out once, or why there are none."""
    if not work.data.site:
        return
    by_site, what = work.data.by_site(), f"leave one {work.data.site} out: left out"
    if by_site is None:
        work.note(f"{what}, outside the test split all cases have the same {work.data.site}")
        return
    candidates = [scored.candidate for scored in work.in_order()]
    needed = len(candidates) * len(by_site.fold_names) * work.fits.of(1) / 6
    if not work.decide("sites", needed < work.left_s(SITES_SHARE)):
        work.note(f"{what}, would take about {in_words(needed)}")
        return
    work.sites = leave_sites_out(candidates, by_site, work.settings, clinical_of(work))
    if work.sites is None:
        work.note(f"{what}, without one of them an outcome has fewer than two patients")


def _finish(work: Work, device: str, sources: Sequence[Source]) -> dict[str, Any]:
    """Sites, the last blend, and the test split by the plugin that came of it."""
    _leave_sites_out(work)
    written = write_plugin(work)
    test = _test_cases(work, written, device, sources) if work.data.test else None
    if test is not None:
        needed = test.seconds()
        if work.decide("test split, by the plugin", needed < (1 + OVERRUN) * work.clock.total_s - work.clock.spent_s):
            work.test = test.scored()
        else:
            many = f"answering its {len(work.data.test)} cases would take about {in_words(needed)}"
            work.note(without_test(work, many))
    summary = write_pages(work, written, final=True)
    work.keep(finished=True)
    return summary
