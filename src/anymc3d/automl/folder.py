"""The files of ``anymc3d auto``, and what is remembered of a run that was stopped."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anymc3d.files import atomic

KIND = "auto"


@dataclass(frozen=True)
class AutoFolder:
    """Everything under one path."""

    path: Path

    @property
    def record(self) -> Path:
        """What must be equal for a second command to be the same run."""
        return self.path / "run.json"

    @property
    def progress(self) -> Path:
        """Seconds spent and what was decided, so that a stopped run resumes as it would have gone on."""
        return self.path / "progress.json"

    @property
    def plugin(self) -> Path:
        return self.path / "plugin.safetensors"

    @property
    def leaderboard(self) -> Path:
        return self.path / "leaderboard.csv"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def summary(self) -> Path:
        """``auto.json``: the report as data."""
        return self.path / "auto.json"

    @property
    def task(self) -> Path:
        return self.path / "task.yaml"

    @property
    def out_of_fold(self) -> Path:
        return self.path / "oof.csv"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.csv"

    @property
    def members(self) -> Path:
        """Folder of the members as plugins of their own."""
        return self.path / "members"

    @property
    def lora(self) -> Path:
        """Folder of the training runs."""
        return self.path / "lora"

    @property
    def test(self) -> Path:
        """Folder of the predictions of the test split, made once at the end."""
        return self.path / "test"

    def forget(self) -> None:
        """Take back that a run claimed the folder: it was refused, and may be asked for anew with other settings."""
        self.record.unlink(missing_ok=True)
        self.progress.unlink(missing_ok=True)


@dataclass
class Remembered:
    """``progress.json``: what a stopped run had spent and decided."""

    path: Path
    spent_s: float
    decided: dict[str, Any]
    finished: bool

    @classmethod
    def read(cls, path: Path) -> Remembered:
        """Of the file, or of a run that begins."""
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            return cls(path, float(record["spent_s"]), dict(record["decided"]), bool(record["finished"]))
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return cls(path, 0.0, {}, False)

    def write(self, spent_s: float, *, finished: bool = False) -> None:
        """Keep it; ``spent_s``: of all runs so far."""
        self.spent_s, self.finished = spent_s, finished
        atomic.write_json(self.path, {"spent_s": round(spent_s, 2), "decided": self.decided, "finished": finished})
