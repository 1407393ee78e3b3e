"""What every test of an adapter does with a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anymc3d.adapters import Adapted, AdaptOptions, adapt, write_adapted
from anymc3d.data.case_scans import CaseScans
from anymc3d.data.manifest import Manifest, read_manifest
from anymc3d.settings.views import ViewSettings

VIEW_SIZE = (28, 28, 4)


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., tuple[Adapted, Manifest]]:
    """Adapt a folder, write the manifest into another folder, read it back, and prepare one scan of it."""

    def write(layout: str, folder: Path, **options: Any) -> tuple[Adapted, Manifest]:
        adapted = adapt(layout, folder, AdaptOptions(**options))
        assert not adapted.findings.problems()
        out = tmp_path / "elsewhere" / "manifest.csv"
        write_adapted(adapted, out, str(folder))
        assert str(tmp_path) not in out.read_text()
        manifest = read_manifest(out, labels=adapted.labels)
        case = manifest.cases[0]
        view = ViewSettings(size=VIEW_SIZE, image=next(iter(case.images)), normalise="percentile")
        prepared = CaseScans(case).prepare({"image": view})
        assert prepared.views["image"].slices.shape[0] == VIEW_SIZE[2]
        return adapted, manifest

    return write


@pytest.fixture
def problems() -> Callable[..., list[str]]:
    """The errors of a folder."""

    def find(layout: str, folder: Path, **options: Any) -> list[str]:
        return adapt(layout, folder, AdaptOptions(**options)).findings.problems()

    return find


@pytest.fixture
def warnings() -> Callable[..., str]:
    """All warnings of a folder as one text; there must be no error."""

    def find(layout: str, folder: Path, **options: Any) -> str:
        findings = adapt(layout, folder, AdaptOptions(**options)).findings
        assert not findings.problems()
        return "\n".join(line for one in findings.listed() if one.level == "warn" for line in one.lines())

    return find
