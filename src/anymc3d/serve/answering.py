"""One request to the worker, answered: which plugins are asked, their rows, and the files that show the answers."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from anymc3d.data.case import Case
from anymc3d.data.readers import takes_series
from anymc3d.errors import ScanError, coded
from anymc3d.predict.predictor import Predictor
from anymc3d.predict.study import study_case
from anymc3d.serve.results import Answered, is_dicom, note_of, record_of, write_results, write_sr
from anymc3d.serve.routing import Routes, names_of, route
from anymc3d.serve.settings import ServeSettings

logger = logging.getLogger(__name__)

NOT_MEANT = "no rule takes a series of this study"


def answer(predictor: Predictor, request: Mapping[str, Any], settings: ServeSettings) -> dict[str, Any]:
    """Predict one study, and make its heatmaps, reports and DICOM objects.

    Returns:
        ``rows`` as in ``predictions.csv`` with numbers as numbers, ``message``, ``files`` that were made, ``notes`` on
        what could not be made, ``record``.
    """
    try:
        routes = _routes(predictor, request, settings)
    except ScanError as error:
        assert settings.node.rules is not None
        rows = [_error_row(request, name, coded(error.what, error.code)) for name in names_of(settings.node.rules)]
        return {"rows": rows, "files": [], "notes": [], "record": {}, "message": ""}
    answered = [Answered.of(predictor.only(plugins), case, settings.strict) for case, plugins in routes.asked]
    notes: list[str] = []
    files = _files(predictor, answered, Path(request["results"]), settings, notes)
    rows = [row for part in answered for row in part.rows]
    rows += [_error_row(request, plugin, reason) for plugin, reason in routes.refused.items()]
    record = record_of(answered, predictor)
    if routes.decisions:
        record["routing"] = routes.record()
    return {"rows": rows, "files": files, "notes": notes, "record": record, "message": "" if rows else NOT_MEANT}


def case_of(request: Mapping[str, Any]) -> Case:
    """The case that a request describes: one scan, or views, with the rule that chooses its series."""
    views = request.get("views")
    return study_case(request.get("scan"), views, case=request["case"], series=request.get("series"))


def _routes(predictor: Predictor, request: Mapping[str, Any], settings: ServeSettings) -> Routes:
    """By the rules of the service, where there are any, and the sender did not say it itself.

    Raises:
        ScanError: the study cannot be listed.
    """
    rules, scan = settings.node.rules, request.get("scan")
    is_chosen = request.get("series") or request.get("plugins")
    if rules is not None and scan is not None and not is_chosen and takes_series(scan):
        return route(Path(scan), request["case"], rules)
    chosen = request.get("plugins") or [plugin.card.name for plugin in predictor.plugins]
    return Routes(asked=[(case_of(request), chosen)])


def _files(
    predictor: Predictor, answered: Sequence[Answered], results: Path, settings: ServeSettings, notes: list[str]
) -> list[str]:
    node, files = settings.node, []
    parts = [part for part in answered if is_dicom(part.case)]
    if "sr" in node.objects and parts:
        files += _or_note(partial(write_sr, parts, results, node), parts[0].case, "no structured report", notes)
    for part in answered if settings.heatmaps else ():
        for row in part.rows:
            if row["status"] == "error":
                continue
            make = partial(write_results, predictor.only([row["plugin"]]), part.case, results, node, notes)
            files += _or_note(make, part.case, f"{row['plugin']}: no heatmap", notes)
    return files


def _error_row(request: Mapping[str, Any], plugin: str, message: str) -> dict[str, Any]:
    return {"case": request["case"], "plugin": plugin, "status": "error", "message": message}


def _or_note(make: Callable[[], list[str]], case: Case, what: str, notes: list[str]) -> list[str]:
    """The files that show an answer; where they cannot be made the answer stands, and a note says so."""
    try:
        return make()
    except Exception as error:  # noqa: BLE001 - what shows an answer may fail on its own
        logger.debug("%s", traceback.format_exc())
        notes.append(f"{what}: {note_of(error, case)}")
        return []
