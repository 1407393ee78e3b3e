"""The files of a ``--quick`` run, and the record of what was run."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from anymc3d.data.measures.case import MEASURES_VERSION
from anymc3d.data.preprocess import CODE_VERSION
from anymc3d.errors import RunFolderError
from anymc3d.files import atomic
from anymc3d.models.store import LoadedBackbone
from anymc3d.settings.config import TaskSettings
from anymc3d.train.quick.features import FEATURE_VERSION, PRECISION
from anymc3d.train.quick.settings import QuickSettings
from anymc3d.train.run_folder import RunFolder
from anymc3d.train.start import settings_of_run
from anymc3d.train.study import Study, covariates_record

KIND = "quick"


@dataclass(frozen=True)
class QuickFolder(RunFolder):
    """A run folder with what only ``--quick`` leaves."""

    @property
    def report(self) -> Path:
        return self.path / "quick.json"

    @property
    def picture(self) -> Path:
        return self.path / "quick.png"

    @property
    def out_of_fold(self) -> Path:
        return self.path / "oof.csv"

    @property
    def out_of_fold_metrics(self) -> Path:
        return self.path / "oof_metrics.csv"


@dataclass
class StageLog:
    """One line of ``log.jsonl`` per stage: what was done, wall seconds and processor seconds."""

    path: Path
    lines: list[str] = field(default_factory=list)
    _wall: float = field(default_factory=time.monotonic)
    _cpu: float = field(default_factory=time.process_time)

    def stage(self, name: str, **facts: Any) -> None:
        """Write what the stage that ends now did."""
        wall, cpu = time.monotonic(), time.process_time()
        seconds = {"seconds": round(wall - self._wall, 2), "cpu_seconds": round(cpu - self._cpu, 2)}
        self.lines.append(json.dumps({"stage": name, **facts, **seconds}) + "\n")
        self._wall, self._cpu = wall, cpu
        atomic.write_text(self.path, "".join(self.lines))


def refuse_other_runs(folder: RunFolder) -> None:
    """Refuse a folder in which another kind of run began.

    Raises:
        RunFolderError: it did.
    """
    if not folder.record.exists():
        return
    try:
        kind = json.loads(folder.record.read_text(encoding="utf-8")).get("kind")
    except (ValueError, AttributeError):
        return  # claim() says what is wrong with it
    if kind != KIND:
        raise RunFolderError(
            f"{folder.path}: holds a training run (kind {kind!r}), expected a new folder or one made by --quick; "
            "choose another output folder"
        )


def identity(
    task: TaskSettings, study: Study, backbone: LoadedBackbone | None, settings: QuickSettings
) -> dict[str, Any]:
    """What must be equal for a second command to be the same run. Test labels are no part of it."""
    plain = settings_of_run(task)
    known = {"fingerprint": backbone.fingerprint, "positions": task.backbone.positions} if backbone else None
    plain["backbone"] = known if known else f"measures of version {MEASURES_VERSION}"
    cases = "\n".join(
        f"{case.id}|{case.patient}|{split}|{case.fold}|{row.tolist()}"
        for case, split, row in zip(study.manifest.cases, study.splits, study.targets, strict=True)
        if split != "test"
    )
    return {
        "kind": KIND,
        "settings": plain,
        "quick": asdict(settings) | {"precision": PRECISION, "feature_version": FEATURE_VERSION},
        "cases": hashlib.sha256(cases.encode()).hexdigest(),
        **covariates_record(study, task.covariates, [i for i, s in enumerate(study.splits) if s != "test"]),
        "preprocessing_version": CODE_VERSION,
    }
