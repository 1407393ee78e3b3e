"""The worker process: it alone reads what strangers sent and runs the network, so that neither can take the service
down. It holds the plugins on their backbone and answers one study after the other."""

from __future__ import annotations

import logging
import os
import resource
import signal
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anymc3d.data.case_faults import fault_of
from anymc3d.errors import AnyMC3DError
from anymc3d.serve.settings import ServeSettings

if TYPE_CHECKING:
    from anymc3d.data.case import Case
    from anymc3d.predict.predictor import Predictor

logger = logging.getLogger(__name__)

READY, FAILED, RESULT = "ready", "failed", "result"
Message = tuple[str, Any]


def main(connection: Connection, settings: ServeSettings) -> None:
    """Load the plugins, say so, then answer requests until the connection ends."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the service decides when this process ends
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # no scan is left behind in a core dump
    os.umask(0o077)
    try:
        predictor = load(settings)
    except AnyMC3DError as error:
        connection.send((FAILED, str(error)))
        return
    connection.send((READY, facts_of(predictor)))
    while True:
        try:
            request = connection.recv()
        except EOFError:
            return
        connection.send((RESULT, answer(predictor, request, settings)))


def load(settings: ServeSettings) -> Predictor:
    """The predictor of a service.

    Raises:
        PluginError, BackboneError: a plugin cannot be used, or its backbone is not at hand.
    """
    from anymc3d.plugins import load_plugin
    from anymc3d.predict.predictor import Predictor

    return Predictor(
        [load_plugin(path) for path in settings.plugins],
        backbone=settings.backbone,
        device=settings.device,
        precision=settings.precision,
        chunk_size=settings.chunk_size,
        segmenters=settings.segmenters,
    )


def facts_of(predictor: Predictor) -> list[dict[str, Any]]:
    """What the service says of each plugin."""
    from anymc3d.report.study import threshold_of

    found = []
    for plugin in predictor.plugins:
        card = plugin.card
        points = {label: threshold_of(card, label) for label in card.labels.output_names}
        found.append(
            {
                "name": card.name,
                "hash": plugin.hash,
                "labels": list(card.labels.output_names),
                "modality": card.modality,
                "images": sorted({view.image for view in card.preprocessing.values()}),
                "calibrated": card.is_calibrated,
                "licence": card.licence,
                "one_of_classes": card.labels.one_of_classes,
                "operating_points": {
                    label: {"probability": threshold, "criterion": "0.5" if point is None else point.criterion}
                    for label, (point, threshold) in points.items()
                    if threshold is not None
                },
            }
        )
    return found


def answer(predictor: Predictor, request: Mapping[str, Any], settings: ServeSettings) -> dict[str, Any]:
    """Predict one study, and make its heatmaps and reports.

    Returns:
        ``rows`` as in ``predictions.csv`` with numbers as numbers, ``message``, ``files`` that were made, ``record``.
    """
    from anymc3d.serve.results import is_dicom, record_of, row_of, write_results, write_sr

    case = case_of(request)
    chosen = request.get("plugins") or [plugin.card.name for plugin in predictor.plugins]
    sub = predictor.only(chosen)
    predictions = sub.predict_case(case)
    rows = [row_of(prediction, strict=settings.strict) for prediction in predictions]
    files: list[str] = []
    notes: list[str] = []
    results, node = Path(request["results"]), settings.node
    if "sr" in node.objects and is_dicom(case):
        files += _shown(partial(write_sr, sub, case, rows, results, node), case, "no structured report", notes)
    if settings.heatmaps:
        for prediction, row in zip(predictions, rows, strict=True):
            if row["status"] == "error":
                continue
            one, what = predictor.only([prediction.plugin]), f"{prediction.plugin}: no heatmap"
            files += _shown(partial(write_results, one, case, results, node, notes), case, what, notes)
    return {"rows": rows, "files": files, "notes": notes, "record": record_of(sub, case)}


def _shown(make: Callable[[], list[str]], case: Case, what: str, notes: list[str]) -> list[str]:
    """The files that show an answer; where they cannot be made the answer stands, and a note says so."""
    try:
        return make()
    except Exception as error:  # noqa: BLE001 - what shows an answer may fail on its own
        logger.debug("%s", traceback.format_exc())
        notes.append(f"{what}: {fault_of(error, case)}")
        return []


def case_of(request: Mapping[str, Any]) -> Case:
    """The case that a request describes: one scan, or views, with the rule that chooses its series."""
    from anymc3d.predict.study import study_case

    views = request.get("views")
    return study_case(request.get("scan"), views, case=request["case"], series=request.get("series"))
