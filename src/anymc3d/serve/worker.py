"""The worker process: it alone reads what strangers sent and runs the network, so that neither can take the service
down. It holds the plugins on their backbone and answers one study after the other."""

from __future__ import annotations

import os
import resource
import signal
import time
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from anymc3d.errors import AnyMC3DError
from anymc3d.serve import logs
from anymc3d.serve.settings import ServeSettings

if TYPE_CHECKING:
    from anymc3d.predict.predictor import Predictor

READY, FAILED, RESULT = "ready", "failed", "result"


def main(connection: Connection, settings: ServeSettings) -> None:
    """Load the plugins, say so, then answer requests until the connection ends."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the service decides when this process ends
    logs.begin_worker()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # no scan is left behind in a core dump
    os.umask(0o077)
    try:
        predictor = load(settings)
    except AnyMC3DError as error:
        connection.send((FAILED, str(error)))
        return
    connection.send((READY, facts_of(predictor)))
    from anymc3d.serve.answering import answer

    while True:
        try:
            request = connection.recv()
        except EOFError:
            return
        begun = time.monotonic()
        reply = answer(predictor, request, settings)
        reply["record"]["work_seconds"] = round(time.monotonic() - begun, 6)
        connection.send((RESULT, reply))


def load(settings: ServeSettings) -> Predictor:
    """The predictor of a service.

    Raises:
        PluginError, BackboneError: a plugin cannot be used, or its backbone is not at hand.
    """
    from anymc3d.plugins import load_named
    from anymc3d.predict.predictor import Predictor

    return Predictor(
        [load_named(path) for path in settings.plugins],
        backbone=settings.backbone,
        device=settings.device,
        precision=settings.precision,
        chunk_size=settings.chunk_size,
        segmenters=settings.segmenters,
    )


def facts_of(predictor: Predictor) -> list[dict[str, Any]]:
    """What the service says of each plugin."""
    from anymc3d.plugins.evidence import doubts_of
    from anymc3d.report.study import threshold_of
    from anymc3d.serve.results import training_of

    facts = []
    for plugin in predictor.plugins:
        card = plugin.card
        decides = [] if card.labels.is_number else card.labels.output_names
        points = {label: threshold_of(card, label) for label in decides}
        facts.append(
            {
                "name": card.name,
                "hash": plugin.hash,
                "labels": list(card.labels.output_names),
                "modality": card.modality,
                "images": sorted({view.image for view in card.preprocessing.values()}),
                "calibrated": card.is_calibrated,
                "doubts": list(doubts_of(card)),
                "licence": card.licence,
                "one_of_classes": card.labels.one_of_classes,
                "operating_points": {
                    label: {"probability": threshold, "criterion": "0.5" if point is None else point.criterion}
                    for label, (point, threshold) in points.items()
                    if threshold is not None
                },
                "training": training_of(card),
            }
        )
    return facts
