"""The series that scanners, archives and anonymisers really make: each is read right, or the message names what is the
matter and a way out, which is then gone. Promises B2, B4, B5, B6 and B7."""

from __future__ import annotations

import copy
import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from advice import ways_out
from pydicom.dataset import Dataset

from anymc3d.data.readers import content_hash, read_header, read_volume
from anymc3d.errors import ScanError
from dicom_makers import (
    MR,
    PHI,
    ROOT,
    STORED,
    Series,
    anatomy,
    make_series,
    set_pixels,
    setting,
    truth,
)

COUNT = len(STORED)


def mr_truth(stored: np.ndarray) -> np.ndarray:
    return truth(stored, intercept=0)


def volumes(count: int, tag: Callable[[Dataset, int], None], *, slice_major: bool = False) -> Series:
    """An MR series of several volumes at the same places; ``tag`` marks a slice of volume ``number``."""
    slices = []
    for number in range(count):
        for index, dataset in enumerate(make_series(stored=anatomy(seed=number), sop_class=MR).slices):
            dataset.SOPInstanceUID = f"{ROOT}50.{number}.{index}"
            dataset.InstanceNumber = 1 + (index * count + number if slice_major else number * COUNT + index)
            tag(dataset, number)
            slices.append(dataset)
    return Series(slices)


def ge_b(dataset: Dataset, number: int) -> None:
    value = [1000 * number + (1_000_000_000 if number else 0), 8, 0, 0]
    dataset.Manufacturer = "GE MEDICAL SYSTEMS"
    dataset.private_block(0x0043, "GEMS_PARM_01", create=True).add_new(0x39, "IS", value)


def siemens_b(dataset: Dataset, number: int) -> None:
    dataset.private_block(0x0019, "SIEMENS MR HEADER", create=True).add_new(0x0C, "IS", 1000 * number)


def philips_b(dataset: Dataset, number: int) -> None:
    dataset.private_block(0x2001, "Philips Imaging DD 001", create=True).add_new(0x03, "FL", 1000.0 * number)


def unnamed_ge_b(dataset: Dataset, number: int) -> None:
    """As an anonymiser leaves it that takes the creator of private elements away."""
    dataset.Manufacturer = "GE MEDICAL SYSTEMS"
    dataset.add_new(0x00431039, "UN", f"{1000 * number}\\8\\0\\0 ".encode())


def echo_and_type(dataset: Dataset, number: int) -> None:
    dataset.EchoTime, dataset.EchoNumbers = (4.6, 6.9)[number // 2], number // 2 + 1
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "MP"[number % 2], "NONE"]


def sequence_name(dataset: Dataset, number: int) -> None:
    dataset.SequenceName = f"ep_b{1000 * number}t"


def times(dataset: Dataset, number: int) -> None:
    dataset.AcquisitionTime = f"10153{number}.250000"


def trigger_delays(dataset: Dataset, number: int) -> None:
    dataset.NominalCardiacTriggerDelayTime = 100.0 * number


def directions(dataset: Dataset, number: int) -> None:
    """One b = 0 and three directions of b = 1000."""
    dataset.DiffusionBValue = 1000.0 if number else 0.0
    if number:
        dataset.DiffusionGradientOrientation = [float(axis == number) for axis in (1, 2, 3)]


def nothing(dataset: Dataset, number: int) -> None:
    """InstanceNumber alone."""


def lacking(*missing: tuple[int, int], tag: Callable[[Dataset, int], None] = nothing, **more: bool) -> Series:
    """Three volumes that no tag tells apart; ``missing``: (volume, slice)."""
    made = volumes(3, tag, **more)
    return Series([one for i, one in enumerate(made.slices) if (i // COUNT, i % COUNT) not in missing])


def acquired(times: Sequence[float], *missing: tuple[int, int]) -> Series:
    """Three volumes that are numbered alike, by the second of the day at which each begins; a slice takes a second."""
    made = volumes(3, nothing)
    for place, dataset in enumerate(made.slices):
        volume, index = divmod(place, COUNT)
        second = round(times[volume]) + index
        dataset.InstanceNumber = 1 + index
        dataset.AcquisitionTime = f"{second // 3600 % 24:02d}{second // 60 % 60:02d}{second % 60:02d}.500000"
    return Series([one for i, one in enumerate(made.slices) if divmod(i, COUNT) not in missing])


def numbered(series: Series, number: Callable[[int], int]) -> Series:
    for dataset in series.slices:
        dataset.InstanceNumber = number(int(dataset.InstanceNumber))
    return series


def phase_of_three(dataset: Dataset, number: int) -> None:
    dataset.TriggerTime, dataset.FlipAngle, dataset.InversionTime = (
        30.0 * (number // 4),
        5 + number // 2 % 2,
        number % 2,
    )


def angled() -> tuple[Series, dict[str, np.ndarray]]:
    """Three stacks of four, each turned along its disc, the second acquired first."""
    slices, stacks = [], {}
    for place, (turn, first) in enumerate(((-10, 9), (0, 1), (12, 5))):
        angle = np.deg2rad(turn)
        orientation = (1.0, 0.0, 0.0, 0.0, float(np.cos(angle)), float(np.sin(angle)))
        stored = anatomy(4, seed=place)
        made = make_series(stored=stored, sop_class=MR, orientation=orientation, first=(-12.0, -10.0, 40.0 * place))
        for index, dataset in enumerate(made.slices):
            dataset.SOPInstanceUID, dataset.InstanceNumber = f"{ROOT}60.{place}.{index}", first + index
        slices += made.slices
        stacks[f"stack={1 + (first - 1) // 4}"] = mr_truth(stored)
    return Series(slices), stacks


def side_by_side() -> tuple[Series, dict[str, np.ndarray]]:
    """Two knees in one series, their slices taking turns."""
    slices, stacks = [], {}
    for side in (0, 1):
        stored = anatomy(5, seed=side)
        made = make_series(stored=stored, sop_class=MR, first=(-20.0 + 150.0 * side, 5.0, 40.0))
        for index, dataset in enumerate(made.slices):
            dataset.SOPInstanceUID, dataset.InstanceNumber = f"{ROOT}61.{side}.{index}", 1 + 2 * index + side
        slices += made.slices
        stacks[f"stack={side + 1}"] = mr_truth(stored)
    return Series(slices), stacks


def two_sizes() -> tuple[Series, dict[str, np.ndarray]]:
    large, small = anatomy(6, seed=1), anatomy(3, seed=2)[:, :6, :8]
    series, other = make_series(stored=large), make_series(stored=small)
    for index, dataset in enumerate(other.slices):
        dataset.SOPInstanceUID, dataset.InstanceNumber = f"{ROOT}62.{index}", 90 + index
    series.slices += other.slices
    return series, {"stack=1": truth(large)}


def at_heights(heights: list[float], **tags: list[object]) -> Series:
    """A CT whose slices lie at these places along z; ``tags``: a value for each slice."""
    series = make_series(stored=anatomy(len(heights), seed=3))
    for index, (dataset, z) in enumerate(zip(series.slices, heights, strict=True)):
        dataset.ImagePositionPatient = [-20.0, 5.0, float(z)]
        setting(**{name: values[index] for name, values in tags.items()})(dataset)
    return series


HEAD = [40 + 2.5 * k for k in range(7)] + [60.0, 65.0, 70.0]
TOUCHING = [40 + 2.5 * k for k in range(7)] + [58.75 + 5 * k for k in range(4)]
"""Slices that touch: half of each thickness lies between the last thin and the first thick one."""


def resampled(heights: list[float], step: float) -> np.ndarray:
    """Linear interpolation written out, by SciPy."""
    from scipy.interpolate import interp1d

    count = round((heights[-1] - heights[0]) / step) + 1
    grid = np.linspace(heights[0], heights[-1], count)
    return interp1d(heights, truth(anatomy(len(heights), seed=3)), axis=2)(grid).astype(np.float32)


def overlapping(**tags: list[object]) -> Series:
    tags = tags or {"AcquisitionNumber": [1] * 5 + [2] * 5}
    return at_heights([3.0 * k for k in range(5)] + [7.2 + 3.0 * k for k in range(5)], **tags)


def own_uids(*keywords: str) -> Callable[[], Series]:
    def make() -> Series:
        series = make_series()
        for index, dataset in enumerate(series.slices):
            for number, keyword in enumerate(keywords):
                setattr(dataset, keyword, f"{ROOT}70.{number}.{index + 1}")
        return series

    return make


def renamed_beside_a_whole_one() -> Series:
    series = own_uids("SeriesInstanceUID")()
    other = make_series(series=2, stored=anatomy(5, seed=8))
    for dataset in other.slices:
        dataset.SeriesNumber = 77
    return Series(series.slices + other.slices)


def tilted(degrees: float, heights: list[float] | None = None) -> Series:
    heights = heights or [40 + 2.5 * k for k in range(COUNT)]
    series = at_heights(heights)
    for dataset, z in zip(series.slices, heights, strict=True):
        dataset.ImagePositionPatient = [-20.0, 5.0 + (z - heights[0]) * float(np.tan(np.deg2rad(degrees))), float(z)]
    return series


@dataclass(frozen=True)
class Kind:
    """A series that is refused: what the message says, and what its ways out must give."""

    make: Callable[[], Series]
    words: tuple[str, ...]
    right: dict[str, np.ndarray] = field(default_factory=dict)
    """``series`` cell that the message must name -> the voxels that it gives."""


def of(made: Callable[[], tuple[Series, dict[str, np.ndarray]]], *words: str) -> Kind:
    """``made`` also gives what each stack is; the message offers the first."""
    return Kind(lambda: made()[0], words, {"stack=1": made()[1]["stack=1"]})


def first_of(count: int, tag: Callable[[Dataset, int], None], rule: str, *words: str, **more: bool) -> Kind:
    return Kind(lambda: volumes(count, tag, **more), words, {rule: mr_truth(anatomy(seed=0))})


TOLD = ("2 volumes", f"at the same {COUNT} places")
KINDS: dict[str, Kind] = {
    "b_of_ge": first_of(2, ge_b, "DiffusionBValue=0", *TOLD, "DiffusionBValue (0, 1000)"),
    "b_of_ge_without_creator": first_of(2, unnamed_ge_b, "DiffusionBValue=0", *TOLD, "DiffusionBValue (0, 1000)"),
    "b_of_siemens": first_of(2, siemens_b, "DiffusionBValue=0", *TOLD, "DiffusionBValue (0, 1000)"),
    "b_of_philips": first_of(2, philips_b, "DiffusionBValue=0", *TOLD, "DiffusionBValue (0, 1000)"),
    "b_and_directions": first_of(4, directions, "volume=1", "4 volumes", "DiffusionGradientOrientation"),
    "echoes_and_types": first_of(
        4, echo_and_type, "EchoTime=4.6; ImageType=M", "4 volumes", "EchoTime (4.6, 6.9) and ImageType (M, P)"
    ),
    "three_tags": first_of(
        8,
        phase_of_three,
        "TriggerTime=0.0; InversionTime=0.0; FlipAngle=5.0",
        "TriggerTime",
        "InversionTime",
        "FlipAngle",
    ),
    "sequence_names": first_of(2, sequence_name, "volume=1", *TOLD, "SequenceName"),
    "acquisition_times": first_of(2, times, "volume=1", *TOLD, "AcquisitionTime"),
    "trigger_delays": first_of(2, trigger_delays, "volume=1", *TOLD, "NominalCardiacTriggerDelayTime"),
    "numbers_alone": first_of(3, nothing, "volume=1", "3 volumes", "by no known tag"),
    "numbers_that_run_across": first_of(3, nothing, "volume=1", "3 volumes", "InstanceNumber", slice_major=True),
    "numbers_of_volumes_that_lack_slices": Kind(
        lambda: lacking((1, 4), (2, 6), (2, 7)),
        ("3 volumes", "not all of them complete", "in the order of InstanceNumber"),
        {"volume=1": mr_truth(anatomy(seed=0))},
    ),
    "numbers_of_a_first_volume_that_begins_late": Kind(
        lambda: numbered(lacking((0, 0), (0, 1)), lambda number: number + 40),
        ("3 volumes", "not all of them complete"),
        {"volume=2": mr_truth(anatomy(seed=1))},
    ),
    "numbers_that_run_across_with_gaps": Kind(
        lambda: lacking((0, 3), (2, 0), slice_major=True),
        ("3 volumes", "not all of them complete"),
        {"volume=2": mr_truth(anatomy(seed=1))},
    ),
    "numbers_of_volumes_that_all_lack_a_slice_and_one_more": Kind(
        lambda: lacking((0, 7), (1, 7), (2, 7), (0, 3)),
        ("3 volumes", "not all of them complete", "in the order of InstanceNumber"),
        {"volume=2": mr_truth(anatomy(seed=1)[:7])},
    ),
    "echoes_that_lack_slices": Kind(
        lambda: lacking((0, 3), tag=lambda dataset, number: setting(EchoTime=float(5 + number))(dataset)),
        ("3 volumes", "not all of them complete", "EchoTime (5.0, 6.0, 7.0)"),
        {"EchoTime=6.0": mr_truth(anatomy(seed=1))},
    ),
    "times_alone": Kind(
        lambda: acquired((36000, 36100, 36200)),
        ("3 volumes", "in the order of AcquisitionTime"),
        {"volume=1": mr_truth(anatomy(seed=0))},
    ),
    "angled_stacks": of(angled, "3 stacks of 4 slices", "turned by 12 and 10 degrees"),
    "two_knees": of(side_by_side, "2 stacks of 5 slices", "side by side"),
    "two_sizes": of(two_sizes, "2 stacks of 6 and 3 slices", "image sizes"),
    "two_passes": Kind(
        overlapping,
        ("2 even stacks by AcquisitionNumber", "3 mm each", "overlap"),
        {"AcquisitionNumber=1": truth(anatomy(10, seed=3)[:5])},
    ),
    "two_passes_by_their_time": Kind(
        lambda: overlapping(AcquisitionTime=["101000"] * 5 + ["101500"] * 5),
        ("2 even stacks by AcquisitionTime", "3 mm each", "overlap"),
        {"stack=1": truth(anatomy(10, seed=3)[:5])},
    ),
    "two_passes_by_their_kernel": Kind(
        lambda: overlapping(ConvolutionKernel=["B30f"] * 5 + ["B70f"] * 5),
        ("2 even stacks by ConvolutionKernel", "3 mm each", "overlap"),
        {"stack=1": truth(anatomy(10, seed=3)[:5])},
    ),
    "two_passes_by_their_numbers": Kind(
        lambda: overlapping(KVP=[120] * 10),
        ("2 even stacks by InstanceNumber", "3 mm each", "overlap"),
        {"stack=1": truth(anatomy(10, seed=3)[:5])},
    ),
    "in_turns_and_one_is_missing": Kind(
        lambda: at_heights([0.0, 4, 8, 12, 6, 10, 14]),
        ("found 4 mm between 0 and 4 mm", "1 missing"),
    ),
    "two_increments": Kind(
        lambda: at_heights(HEAD, SliceThickness=[2.5] * 7 + [5] * 3),
        ("the spacing changes from 2.5 to 5 mm at 55 mm", "no slice is missing"),
        {"gaps=allow": resampled(HEAD, 2.5), "SliceThickness=2.5": truth(anatomy(10, seed=3)[:7])},
    ),
    "two_increments_that_touch": Kind(
        lambda: at_heights(TOUCHING),
        ("the spacing changes from 2.5 to 5 mm", "no slice is missing"),
        {"gaps=allow": resampled(TOUCHING, 2.5)},
    ),
    "a_slice_is_missing": Kind(
        lambda: at_heights([40.0, 42.5, 47.5, 50.0, 52.5]),
        ("found 5 mm between 42.5 and 47.5 mm", "1 missing"),
        {"gaps=allow": resampled([40.0, 42.5, 47.5, 50.0, 52.5], 2.5)},
    ),
    "own_series_uids": Kind(
        own_uids("SeriesInstanceUID"), ("8 series of one slice each", "anonymiser"), {"uids=ignore": truth()}
    ),
    "own_study_uids": Kind(
        own_uids("StudyInstanceUID"), ("8 StudyInstanceUIDs", "anonymiser"), {"uids=ignore": truth()}
    ),
    "own_frames_of_reference": Kind(
        own_uids("FrameOfReferenceUID"), ("8 FrameOfReferenceUIDs", "anonymiser"), {"uids=ignore": truth()}
    ),
    "own_uids_all_over": Kind(
        own_uids("SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID"),
        ("8 series of one slice each", "anonymiser"),
        {"uids=ignore": truth()},
    ),
}


@pytest.fixture(params=KINDS)
def kind(request) -> Kind:
    return KINDS[request.param]


def refusal(folder: Path) -> str:
    """One line, the same from the header and the whole, that identifies nobody."""
    said = []
    for function in (read_volume, read_header):
        with pytest.raises(ScanError) as caught:
            function(folder)
        said.append(str(caught.value))
    assert said[0] == said[1] and "\n" not in said[0]
    rest = said[0].removeprefix(f"{folder}: ")
    assert not [secret for secret in (*PHI, ROOT) if secret in rest]
    return rest


def test_the_message_names_the_kind_and_its_ways_out_give_the_right_voxels(tmp_path: Path, kind: Kind) -> None:
    folder = kind.make().write(tmp_path / "scan")
    message = refusal(folder)
    assert not [word for word in kind.words if word not in message], message
    ways = {way.cell: way for way in ways_out(message)}
    assert set(kind.right) <= set(ways), message
    hashes = set()
    for cell in ways:
        volume, header = read_volume(folder, series=cell), read_header(folder, series=cell)
        assert header.shape == volume.shape and np.array_equal(header.affine, volume.affine)
        assert volume.warnings, "what was chosen or allowed is always said"
        hashes.add(content_hash(folder, series=cell))
        assert np.isfinite(volume.voxels).all()
        if cell in kind.right:
            np.testing.assert_allclose(volume.voxels, kind.right[cell], atol=2e-3)
    assert len(hashes) == len(ways)


def test_renamed_slices_beside_a_whole_series_are_joined_by_their_own_hash(tmp_path: Path) -> None:
    folder = renamed_beside_a_whole_one().write(tmp_path / "scan")
    (way,) = ways_out(refusal(folder))
    assert way.cell.endswith("; uids=ignore")
    assert np.array_equal(read_volume(folder, series=way.cell).voxels, truth())
    other = "SeriesNumber=77"
    assert np.array_equal(read_volume(folder, series=other).voxels, truth(anatomy(5, seed=8)))


def test_the_ways_out_end_a_prediction_with_exit_code_0(journey, tmp_path: Path, capsys) -> None:
    """The words of each message, typed behind ``anymc3d predict``; and its cells, in a manifest."""
    from anymc3d.cli.main import main

    common = ["predict", "-p", str(journey.plugin), "--device", "cpu", "--quiet", "--json"]
    rows = [["case", "image", "series"]]
    for name in ("b_of_ge", "echoes_and_types", "angled_stacks", "two_passes", "two_increments", "own_series_uids"):
        folder = KINDS[name].make().write(tmp_path / name)
        way = ways_out(refusal(folder))[0]
        assert main([*common, "-o", str(tmp_path / f"out_{name}"), "-i", str(folder), *way.words]) == 0
        (row,) = json.loads(capsys.readouterr().out)
        assert row["status"] == "warn" and row["logit.block"]
        rows.append([name, name, way.cell])
    with (tmp_path / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    assert main([*common, "-o", str(tmp_path / "out"), "-i", str(tmp_path / "manifest.csv")]) == 0
    assert {row["status"] for row in json.loads(capsys.readouterr().out)} == {"warn"}


@pytest.mark.parametrize("number", range(3))
def test_every_volume_and_stack_can_be_chosen(tmp_path: Path, number: int) -> None:
    folder = volumes(3, nothing, slice_major=True).write(tmp_path / "scan")
    volume = read_volume(folder, series=f"volume={number + 1}")
    assert np.array_equal(volume.voxels, mr_truth(anatomy(seed=number)))
    series, stacks = angled()
    folder = series.write(tmp_path / "spine")
    assert np.array_equal(read_volume(folder, series=f"stack={number + 1}").voxels, stacks[f"stack={number + 1}"])


def shuffled(number: int) -> int:
    """A number of its own in no order at all."""
    return 1 + number * 29 % 101


@pytest.mark.parametrize(
    "make",
    [
        lambda: acquired((36000, 36000, 36200)),  # two volumes at once
        lambda: acquired((36000, 36004, 36200)),  # the second begins before the first ends
        lambda: acquired((86390, 86395 + 10, 86500)),  # around midnight
        lambda: acquired((36000, 36100, 36200), (1, 4)),  # a slice is missing, of whichever volume
        lambda: numbered(lacking((1, 4)), shuffled),
        lambda: numbered(lacking((0, 0), (1, 4)), lambda number: 1 + number * 3 % COUNT + number // COUNT * COUNT),
        lambda: numbered(lacking((1, 4)), lambda number: number - (number > 12)),  # the gap was closed
    ],
)
def test_an_order_that_would_be_a_guess_is_none(tmp_path: Path, make: Callable[[], Series]) -> None:
    folder = make().write(tmp_path / "scan")
    for rule in (None, "volume=1"):
        with pytest.raises(ScanError, match=r"neither tags nor InstanceNumber|but 0 volumes can be distinguished"):
            read_volume(folder, series=rule)


def test_a_volume_that_lacks_slices_leads_on_to_what_allows_it(tmp_path: Path) -> None:
    folder = lacking((1, 4)).write(tmp_path / "scan")
    with pytest.raises(ScanError, match=r"1 missing\?.*series 'volume=2; gaps=allow'"):
        read_volume(folder, series="volume=2")
    volume = read_volume(folder, series="volume=2; gaps=allow")
    assert np.array_equal(
        volume.voxels[:, :, [0, 1, 2, 3, 5, 6, 7]], mr_truth(anatomy(seed=1))[:, :, [0, 1, 2, 3, 5, 6, 7]]
    )
    assert np.array_equal(read_volume(folder, series="volume=3").voxels, mr_truth(anatomy(seed=2)))


@pytest.mark.parametrize("rule", ["volume=4", "volume=99", "stack=2", "volume=0", "stack=x", "volume=1; volume=2"])
def test_a_volume_or_stack_that_is_not_there_is_refused(tmp_path: Path, rule: str) -> None:
    folder = volumes(3, nothing).write(tmp_path / "scan")
    with pytest.raises(ScanError, match=r"series: |there is one volume"):
        read_volume(folder, series=rule)


def test_the_users_own_conditions_stay_in_the_advice(tmp_path: Path) -> None:
    folder = volumes(4, echo_and_type).write(tmp_path / "scan")
    with pytest.raises(ScanError) as caught:
        read_volume(folder, series="EchoTime=6.9")
    (way,) = ways_out(str(caught.value))
    assert way.cell == "EchoTime=6.9; ImageType=M"
    assert np.array_equal(read_volume(folder, series=way.cell).voxels, mr_truth(anatomy(seed=2)))


def test_a_rule_with_words_of_a_person_is_never_repeated(tmp_path: Path) -> None:
    folder = volumes(2, ge_b).write(tmp_path / "scan")
    with pytest.raises(ScanError) as caught:
        read_volume(folder, series="SeriesDescription~=/PHI_DESC/")
    said = str(caught.value).removeprefix(str(folder))
    assert "PHI_DESC" not in said and "'; DiffusionBValue=0' after the rule" in said


def test_stacks_of_several_volumes_are_chosen_one_after_the_other(tmp_path: Path) -> None:
    series, _ = side_by_side()
    again = copy.deepcopy(series)
    for index, dataset in enumerate(again.slices):
        setting(SOPInstanceUID=f"{ROOT}63.{index}", EchoTime=20.0)(dataset)
        set_pixels(dataset, dataset.pixel_array ^ 3, bits=12)
    for dataset in series.slices:
        dataset.EchoTime = 10.0
    folder = Series(series.slices + again.slices).write(tmp_path / "scan")
    message = refusal(folder)
    assert "2 stacks" in message
    with pytest.raises(ScanError) as caught:
        read_volume(folder, series=ways_out(message)[0].cell)
    (way,) = ways_out(str(caught.value))
    assert way.cell == "stack=1; EchoTime=10.0" or way.cell == "EchoTime=10.0; stack=1"
    assert np.array_equal(read_volume(folder, series=way.cell).voxels, mr_truth(anatomy(5, seed=0)))
