"""The files of a training run."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from anymc3d.errors import RunFolderError
from anymc3d.files import regular


@dataclass(frozen=True)
class RunFolder:
    """The files of one training run under ``path``."""

    path: Path

    @property
    def plugin(self) -> Path:
        return self.path / "plugin.safetensors"

    @property
    def task(self) -> Path:
        return self.path / "task.yaml"

    @property
    def manifest(self) -> Path:
        return self.path / "manifest.csv"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.csv"

    @property
    def predictions(self) -> Path:
        return self.path / "predictions.val.csv"

    @property
    def log_csv(self) -> Path:
        return self.path / "log.csv"

    @property
    def log_jsonl(self) -> Path:
        return self.path / "log.jsonl"

    @property
    def curves(self) -> Path:
        return self.path / "curves.png"

    @property
    def record(self) -> Path:
        return self.path / "run.json"

    @property
    def inputs(self) -> Path:
        return self.path / "inputs.json"

    @property
    def cost(self) -> Path:
        return self.path / "cost.json"

    @property
    def regions(self) -> Path:
        return self.path / "regions.csv"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    def run_hash(self) -> str:
        """Sha256 over the settings and cases of the run: what another run left is not taken for its own."""
        record = json.loads(regular.read_text(self.record))
        hashed = [record["settings"], record["cases"]]
        return hashlib.sha256(json.dumps(hashed, sort_keys=True).encode()).hexdigest()


def read_inputs(path: Path) -> dict[str, str]:
    """``inputs.json``: what -> sha256; empty where a run has none yet.

    Raises:
        RunFolderError: it is damaged.
    """
    if not path.exists():
        return {}
    try:
        content = json.loads(regular.read_text(path))
    except (ValueError, OSError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise RunFolderError(f"{path}: damaged; remove it if the scans and masks of this run are what they were")
    return content
