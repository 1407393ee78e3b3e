"""``anymc3d serve -p PLUGIN … --store DIR``."""

from __future__ import annotations

import argparse
import gc
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from anymc3d.cli.options.compute import add_arithmetic, add_backbone, add_device
from anymc3d.cli.options.inputs import add_segmenter
from anymc3d.cli.serve_dicom import add_dicom_arguments, node_settings
from anymc3d.errors import AnyMC3DError, PackageError

if TYPE_CHECKING:
    from anymc3d.serve.settings import ServeSettings

INTERNAL_ERROR, INTERRUPTED = 1, 75


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument(
        "-p",
        "--plugin",
        action="append",
        required=True,
        metavar="PLUGIN",
        help="a trained model file, or NAME=FILE; can be repeated",
    )
    parser.add_argument("--store", type=Path, required=True, metavar="DIR", help="the queue, what came in, the results")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at; others than loopback need a token")
    parser.add_argument("--port", type=int, default=8080, help="0 takes a free one and says which")
    parser.add_argument("--token-file", type=Path, metavar="FILE", help="its first line must come with every request")
    parser.add_argument(
        "--allow-host", action="append", default=[], metavar="NAME", help="a name of this service; can be repeated"
    )
    add_backbone(parser)
    add_segmenter(parser, "as in 'anymc3d predict'")
    add_device(parser)
    add_arithmetic(parser)
    parser.add_argument("--no-heatmaps", action="store_true", help="answers alone: no heatmaps, no reports")
    parser.add_argument("--strict", action="store_true", help="an answer with a warning is an error")
    parser.add_argument("--keep-days", type=float, default=30.0, metavar="N", help="remove what is older; 0: never")
    parser.add_argument("--max-upload-gb", type=float, default=4.0, metavar="N", help="of one upload")
    parser.add_argument("--max-queued", type=int, default=1000, metavar="N", help="studies that may wait")
    parser.add_argument(
        "--case-timeout", type=float, default=600.0, metavar="S", help="seconds that one study may take"
    )
    add_dicom_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Serve until SIGTERM or Ctrl-C; every line of it is JSON."""
    from anymc3d.serve import logs

    logs.begin()
    logger = logging.getLogger(logs.OWN)
    try:
        _serve(args, logger)
        return 0
    except AnyMC3DError as error:
        logger.critical("%s", error.with_code)
        return error.exit_code
    except KeyboardInterrupt:
        logger.warning("interrupted before the service had started or ended; the same command goes on")
        return INTERRUPTED
    except Exception:
        logger.critical("an internal error ended the service", exc_info=True)
        return INTERNAL_ERROR


def _serve(args: argparse.Namespace, logger: logging.Logger) -> None:
    _require_packages()
    from anymc3d.serve import logs
    from anymc3d.serve.server import listen, run_server
    from anymc3d.serve.service import Service

    settings = _settings(args)
    opened = listen(settings.host, settings.port)
    logs.begin_last_words()
    with Service(settings) as service:
        opened.listen(128)  # from here on clients wait for an answer, and are not refused
        if service.listener is not None:
            at = f"{settings.node.dicom_host}:{service.listener.port}"
            logger.info("DICOM node %s at %s", settings.node.ae_title, at)
        names = ", ".join(str(plugin["name"]) for plugin in service.plugins)
        url = f"http://{settings.host}:{opened.getsockname()[1]}"
        logger.info("serving %s at %s; research use only, not a medical device", names, url)
        for plugin in service.plugins:
            for doubt in plugin["doubts"]:
                logger.warning("plugin %s: %s", plugin["name"], doubt)
        if not settings.is_local:
            logger.warning("this port speaks plain HTTP: put a proxy with TLS in front of it")
        run_server(service, opened)
    logger.info("the service has ended")
    gc.freeze()  # Python would look through all that was loaded once more, which takes a crowded machine half a minute


def _settings(args: argparse.Namespace) -> ServeSettings:
    from anymc3d.serve.settings import ServeSettings, read_token

    return ServeSettings(
        plugins=tuple(args.plugin),
        store=args.store,
        host=args.host,
        port=args.port,
        token=None if args.token_file is None else read_token(args.token_file),
        allowed_hosts=tuple(args.allow_host),
        backbone=args.backbone,
        device=args.device,
        precision=args.precision,
        chunk_size=args.chunk_size,
        segmenters=tuple(args.segmenter),
        heatmaps=not args.no_heatmaps,
        strict=args.strict,
        max_upload_bytes=int(args.max_upload_gb * 1024**3),
        max_queued=args.max_queued,
        case_timeout_s=args.case_timeout,
        keep_days=args.keep_days,
        node=node_settings(args),
    )


def _require_packages() -> None:
    try:
        import fastapi  # noqa: F401
        import highdicom  # noqa: F401
        import prometheus_client  # noqa: F401
        import pynetdicom  # noqa: F401
        import python_multipart  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise PackageError(f"serve: needs the package {error.name}: pip install 'anymc3d[serve]'") from None
