"""The files of a training run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


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
