"""One study from one folder into another, then the end: how mercure, XNAT and other orchestrators call a container.

``python -m anymc3d.serve.once [IN OUT]``; without the two, ``MERCURE_IN_DIR`` and ``MERCURE_OUT_DIR`` say where. The
worker of the service does the work, so the answers are those of ``anymc3d serve`` and ``anymc3d predict``.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from anymc3d.errors import AnyMC3DError, ServiceError, did_you_mean
from anymc3d.files import atomic
from anymc3d.serve import logs
from anymc3d.serve.settings import ServeSettings

RESULT = "result.json"
TASK = "task.json"
ENDINGS = (".nii.gz", ".nii", ".zip")
TASK_KEYS = ("plugins", "series")
"""What a module's settings in mercure may choose; every other choice is made where the container is started."""
USAGE = "usage: python -m anymc3d.serve.once [IN OUT], or MERCURE_IN_DIR and MERCURE_OUT_DIR"
ANSWERED, UNUSABLE, NO_ANSWER = 0, 2, 3


def main(words: Sequence[str], environment: Mapping[str, str]) -> int:
    """Answer one study.

    Returns:
        0: there is an answer; 3: there is none, ``result.json`` says why; 2: it could not be tried.
    """
    os.umask(0o077)
    logs.begin()
    try:
        source, target = _folders(words, environment)
        chosen = _chosen(source)
        settings = settings_of(target, environment)
        result = answered(source, target, settings, chosen)
    except AnyMC3DError as error:
        logging.getLogger(logs.OWN).error("%s", error.with_code)
        return UNUSABLE
    atomic.write_json(target / RESULT, result)
    return ANSWERED if result["status"] == "done" else NO_ANSWER


def settings_of(target: Path, environment: Mapping[str, str]) -> ServeSettings:
    """Settings from the environment: ``ANYMC3D_PLUGINS`` (a folder, default ``/plugins``), ``ANYMC3D_BACKBONE``,
    ``ANYMC3D_DEVICE``.

    Raises:
        UsageError: the folder holds no plugin.
    """
    folder = Path(environment.get("ANYMC3D_PLUGINS", "/plugins"))
    plugins = sorted(str(path) for path in folder.glob("*.safetensors"))
    if not plugins:
        raise ServiceError(f"ANYMC3D_PLUGINS: expected a folder with .safetensors files, {folder} holds none")
    return ServeSettings(
        plugins=tuple(plugins),
        store=target,
        backbone=environment.get("ANYMC3D_BACKBONE") or None,
        device=environment.get("ANYMC3D_DEVICE", "auto"),
    )


def answered(source: Path, target: Path, settings: ServeSettings, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """The content of ``result.json``; reports, heatmaps and DICOM objects lie beside it.

    Raises:
        PluginError, BackboneError: a plugin cannot be used.
        UsageError: a plugin that is asked for is not there.
    """
    from anymc3d.serve import worker
    from anymc3d.serve.answering import answer

    predictor = worker.load(settings)
    known = [plugin.card.name for plugin in predictor.plugins]
    for name in chosen.get("plugins", ()):
        if name not in known:
            raise ServiceError(f"{TASK}: plugins: no plugin is called {name!r}{did_you_mean(name, known)}")
    request = {"case": "study", "results": str(target), "scan": str(scan_of(source)), **chosen}
    answers = answer(predictor, request, settings)
    failed = all(row["status"] == "error" for row in answers["rows"])
    needs_a_look = any(row["status"] != "ok" for row in answers["rows"])
    unlike = answers["record"].get("unlike_training", {})
    text = "; ".join(_sentence(row, row["plugin"] in unlike) for row in answers["rows"])
    return {
        "status": "error" if failed else "done",
        **answers,
        "__mercure_notification": {"requested": needs_a_look, "text": f"{text}. Research use only."},
    }


def scan_of(source: Path) -> Path:
    """The one NIfTI or archive in a folder; otherwise the folder itself, a DICOM study.

    Raises:
        UsageError: several, of which none is the study; as where the results of another program lie beside it.
    """
    paths = sorted(source.iterdir())
    scans = [path for path in paths if path.name.lower().endswith(ENDINGS)]
    if len(scans) > 1:
        raise ServiceError(f"expected one scan, {source} holds {len(scans)}")
    if scans and any(path.suffix.lower() == ".dcm" for path in paths):
        raise ServiceError(f"expected one scan, {source} holds DICOM files and beside them {scans[0].name}")
    return scans[0] if scans else source


def _sentence(row: Mapping[str, Any], is_unlike: bool) -> str:
    if row["status"] == "error":
        return f"{row['plugin']}: no answer ({row['message']})"
    if is_unlike:
        return f"{row['plugin']}: do not use, the scan is unlike those it was trained on"
    positive = [key.removeprefix("decision.") for key, value in row.items() if key.startswith("decision.") and value]
    warned = ", with warnings" if row["status"] == "warn" else ""
    return f"{row['plugin']}: {', '.join(positive) or 'no label is positive'}{warned}"


def _folders(words: Sequence[str], environment: Mapping[str, str]) -> tuple[Path, Path]:
    folders = list(words) or [environment.get(f"MERCURE_{name}_DIR", "") for name in ("IN", "OUT")]
    if len(folders) != 2 or not all(folders):
        raise ServiceError(USAGE)
    source, target = (Path(text) for text in folders)
    if not source.is_dir():
        raise ServiceError(f"{source}: expected a folder with one study")
    target.mkdir(parents=True, exist_ok=True)
    return source, target


def _chosen(source: Path) -> dict[str, Any]:
    """What mercure's ``task.json`` asks for, if there is one.

    Raises:
        UsageError: a key that is not taken, or no JSON of this form.
    """
    path = source / TASK
    if not path.is_file():
        return {}
    try:
        settings = json.loads(path.read_text(encoding="utf-8")).get("process", {}).get("settings") or {}
    except (ValueError, AttributeError, OSError):
        raise ServiceError(f"{TASK}: expected JSON with process.settings") from None
    for key in settings:
        if key not in TASK_KEYS:
            raise ServiceError(f"{TASK}: unknown setting {key!r}{did_you_mean(key, TASK_KEYS)}")
    names = settings.get("plugins", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ServiceError(f"{TASK}: plugins: expected a list of names")
    if not isinstance(settings.get("series", ""), str):
        raise ServiceError(f"{TASK}: series: expected a text, as --series")
    return dict(settings)


if __name__ == "__main__":
    logs.begin_last_words()
    sys.exit(main(sys.argv[1:], os.environ))
