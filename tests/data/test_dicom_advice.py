"""Every place of the DICOM reader that advises a rule or an option is reached here, and what it says is done: the scan
is then read, or the next advice leads there. Promises B4, B5 and B7."""

from __future__ import annotations

import ast
import copy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from advice import Way, ways_out
from test_dicom_anonymised import WAYS
from test_dicom_kinds import KINDS, volumes
from test_dicom_together import TOGETHER

import anymc3d.data.dicom
from anymc3d.data.dicom.rules import Rule
from anymc3d.data.readers import read_header
from anymc3d.errors import ScanError
from dicom_makers import ROOT, SECONDARY, Series, anatomy, make_series
from pet_scans import pet_series

SOURCES = Path(anymc3d.data.dicom.__file__).parent
ADVISERS = ("advice", "allowing")
_MOST_STEPS = 4


def changed(change: Callable[[Series], object]) -> Callable[[], Series]:
    def make() -> Series:
        series = make_series()
        change(series)
        return series

    return make


def more(series: Series, **values: object) -> None:
    """One slice more, behind the last."""
    extra = copy.deepcopy(series.slices[-1])
    extra.SOPInstanceUID = f"{ROOT}90"
    extra.ImagePositionPatient = [-20, 5, 40 + 2.5 * len(series.slices)]
    for keyword, value in values.items():
        setattr(extra, keyword, value)
    series.slices.append(extra)


def two_series() -> Series:
    thick = make_series(series=2, stored=anatomy(4))
    for index, dataset in enumerate(thick.slices):
        dataset.ImagePositionPatient = [-20.0, 5.0, 40.0 + 5 * index]
    return Series(make_series().slices + thick.slices)


def in_turns(series: Series) -> None:
    for index, dataset in enumerate(series.slices):
        dataset.EchoTime = (10, 20)[index % 2]


def tilted(gap: bool) -> Callable[[Series], None]:
    def change(series: Series) -> None:
        for index, dataset in enumerate(series.slices):
            dataset.ImagePositionPatient = [-20, 5 + 0.8 * index, 40 + 2.5 * index]
        if gap:
            series.slices.pop(4)

    return change


def spectral(dataset, number: int) -> None:
    dataset.ImageType = ["DERIVED", "PRIMARY", ("WATER", "FAT")[number]]


MADE: dict[str, Callable[[], Series]] = {
    **{name: kind.make for name, kind in KINDS.items()},
    **{name: (lambda series=series: series) for name, (series, _, _) in WAYS.items()},
    "several series": two_series,
    "a localizer": changed(lambda series: more(series, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])),
    "a placed capture": changed(lambda series: more(series, SOPClassUID=SECONDARY, ImageType=["DERIVED", "SECONDARY"])),
    "a picture of another kind with a place": changed(
        lambda series: more(series, SOPClassUID="1.2.840.10008.5.1.4.1.1.88.99", ImageType=["DERIVED", "SECONDARY"])
    ),
    "slices in turns": changed(in_turns),
    "tilt": changed(tilted(False)),
    "tilt and a gap": changed(tilted(True)),
    "water and fat": lambda: volumes(2, spectral),
    **{name: make for name, (make, _, _) in TOGETHER.items()},
    "no weight": lambda: pet_series(PatientWeight=None),
}


@pytest.fixture(scope="module")
def advised() -> set[tuple[str, str]]:
    """(file, function) of each call that gives advice; filled while the tests below run."""
    return set()


@pytest.fixture(scope="module")
def followed() -> set[str]:
    """The series whose advice was followed in this process."""
    return set()


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch, advised: set[tuple[str, str]]) -> None:
    for name in ADVISERS:
        whole = getattr(Rule, name)

        def seen(self, *arguments, whole=whole):
            code = sys._getframe(1).f_code
            advised.add((Path(code.co_filename).name, code.co_name))
            return whole(self, *arguments)

        monkeypatch.setattr(Rule, name, seen)


def said_of(folder: Path, cell: str | None) -> tuple[bool, str]:
    """Whether the scan is read, and what is said of it."""
    try:
        return True, "; ".join(read_header(folder, series=cell).warnings)
    except ScanError as error:
        return False, str(error)


def leads_to_a_scan(folder: Path, way: Way) -> bool:
    cell = way.cell
    for _ in range(_MOST_STEPS):
        is_read, said = said_of(folder, cell)
        if is_read:
            return True
        ways = ways_out(said)
        assert ways, f"{cell}: {said}"
        cell = ways[0].cell
    return False


def follow(folder: Path, name: str) -> None:
    MADE[name]().write(folder)
    _, said = said_of(folder, None)
    for way in ways_out(said):
        assert leads_to_a_scan(folder, way), f"{name}: {way.cell}: {said}"


@pytest.mark.parametrize("name", MADE)
def test_advice_that_was_followed_works(tmp_path: Path, recorded, followed: set[str], name: str) -> None:
    follow(tmp_path / "scan", name)
    followed.add(name)


def callers() -> set[tuple[str, str]]:
    """(file, function) of each call of an adviser, read in the source."""
    found = set()
    for path in SOURCES.glob("*.py"):
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(function, ast.FunctionDef):
                calls = (node for node in ast.walk(function) if isinstance(node, ast.Call))
                named = (call.func for call in calls if isinstance(call.func, ast.Attribute))
                if any(one.attr in ADVISERS for one in named):
                    found.add((path.name, function.name))
    return found


def test_no_place_that_advises_was_left_out(tmp_path: Path, recorded, advised, followed: set[str]) -> None:
    """Follows what the test above did not in this process, so that it may run alone or in another one."""
    for number, name in enumerate(name for name in MADE if name not in followed):
        follow(tmp_path / str(number), name)
    assert advised == callers()
