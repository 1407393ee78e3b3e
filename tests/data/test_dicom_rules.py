"""The language of series rules: words, options, and what a message may repeat; and ``--show-tags``. Promises B5, G1."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path

import numpy as np
import pytest
from advice import ways_out

from anymc3d.cli.main import main
from anymc3d.data.dicom.rules import parse_rule, with_options
from anymc3d.data.readers import read_volume
from anymc3d.errors import ScanError
from dicom_makers import PHI, ROOT, SECONDARY, SPACING, STRAIGHT, Series, anatomy, make_series, setting, truth

CORONAL, OBLIQUE_45 = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0), (1.0, 0.0, 0.0, 0.0, 0.7071, 0.7071)
STACKS = {1: (6, 5.0, STRAIGHT), 2: (10, 1.0, STRAIGHT), 3: (8, 0.5, CORONAL), 4: (5, 0.2, OBLIQUE_45)}
"""Series number -> slices, millimetres between them, orientation."""


def study(stacks: dict[int, tuple[int, float, tuple[float, ...]]] = STACKS) -> Series:
    slices = []
    for number, (count, step, orientation) in stacks.items():
        normal = np.cross(orientation[:3], orientation[3:])
        made = make_series(stored=anatomy(count, seed=number), series=number, orientation=orientation)
        for index, dataset in enumerate(made.slices):
            dataset.ImagePositionPatient = [round(float(v), 6) for v in np.array([-20, 5, 40]) + index * step * normal]
        slices += made.slices
    return Series(slices)


def localizer(number: int) -> list:
    made = make_series(stored=anatomy(3, seed=9), series=number)
    for index, dataset in enumerate(made.slices):
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
        dataset.ImagePositionPatient = [-20, 5, 40 + 0.01 * index]
    return made.slices


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    series = study()
    series.slices += localizer(5)
    return series.write(tmp_path_factory.mktemp("rules") / "study")


@pytest.mark.parametrize(
    ("rule", "number"),
    [
        ("thinnest axial", 2),
        ("axial thinnest", 2),
        ("THINNEST; axial", 2),
        ("thickest axial", 1),
        ("coronal", 3),
        ("thinnest", 4),
        ("thickest", 1),
        ("largest", 2),
        ("largest coronal", 3),
        ("SliceThickness=2.5; thinnest axial", 2),
        ("SeriesNumber!=2; thinnest axial", 1),
        ("thinnest axial; gaps=allow; tilt=allow", 2),
        ("SeriesNumber=1; axial", 1),
    ],
)
def test_B5_words_choose_a_series(folder: Path, rule: str, number: int) -> None:
    volume = read_volume(folder, series=rule)
    assert np.array_equal(volume.voxels, truth(anatomy(STACKS[number][0], seed=number)))
    assert volume.warnings == ()


@pytest.mark.parametrize(
    ("rule", "word"),
    [
        ("sagittal", "takes 0 of them"),
        ("axial", "takes 2 of them"),
        ("thinest axial", "did you mean 'thinnest'"),
        ("the thinnest one", "no word of a rule is 'the'"),
        ("thinnest thickest", "one plane and one of"),
        ("axial coronal", "one plane and one of"),
        ("SeriesNumber=3; axial", "takes 0 of them"),
        ("gaps=deny", "expected 'gaps=allow'"),
        ("uids=all", "expected 'uids=ignore'"),
        ("stack=one", r"expected 'stack=1', 'stack=2'"),
        ("stack=-1", r"expected 'stack=1'"),
        ("volume=100000", r"expected 'volume=1'"),
        ("units=mm", "expected 'units=raw' or 'units=suv'"),
        ("stacks=1", "did you mean 'stack'"),
        ("gaps=allow; gaps!=allow", "expected 'gaps=allow'"),
        ("volume=1; volume=2", "is there twice"),
    ],
)
def test_B5_what_no_rule_is_says_what_is(folder: Path, rule: str, word: str) -> None:
    with pytest.raises(ScanError, match=word):
        read_volume(folder, series=rule)


def test_equally_thin_series_are_never_chosen_between(tmp_path: Path) -> None:
    folder = study({1: (6, 1.0, STRAIGHT), 2: (9, 1.0, STRAIGHT)}).write(tmp_path / "study")
    with pytest.raises(ScanError, match="takes 2 of them") as caught:
        read_volume(folder, series="thinnest axial")
    # The advice is one that decides.
    for way in ways_out(str(caught.value)):
        assert read_volume(folder, series=way.cell).shape[2] == 9


def test_the_advice_of_several_series_works_word_for_word(folder: Path, journey, tmp_path: Path, capsys) -> None:
    common = ["predict", "-p", str(journey.plugin), "--device", "cpu", "--quiet", "--json", "-i", str(folder)]
    assert main([*common, "-o", str(tmp_path / "none")]) == 4
    (row,) = json.loads(capsys.readouterr().out)
    ways = ways_out(row["message"])
    assert len(ways) == 3 and ways[1].cell == "thinnest axial" and ways[2].cell == "thinnest coronal"
    for place, way in enumerate(ways):
        assert main([*common, "-o", str(tmp_path / f"out{place}"), *way.words]) == 0
        capsys.readouterr()


def test_show_tags_prints_numbers_and_descriptions_on_the_terminal_alone(folder, journey, tmp_path, capsys) -> None:
    """And only there: nothing that is written holds them."""
    words = ["predict", "-p", str(journey.plugin), "--device", "cpu", "--json", "-i", str(folder), "--show-tags"]
    assert main([*words, "-o", str(tmp_path / "out"), "--series", "thinnest axial"]) == 0
    printed = capsys.readouterr()
    lines = [line for line in printed.err.splitlines() if "SeriesNumber=" in line]
    assert len(lines) == 5 and "SeriesDescription=PHI_DESC portal 3" in lines[2] and "axial" in lines[0]
    for line in lines:
        assert re.match(r"\s+[0-9a-f]{8} CT 12 x 10, ", line)
    number = re.search(r"SeriesNumber=(\d+); SeriesDescription=PHI_DESC portal 2;", printed.err)[1]
    assert np.array_equal(read_volume(folder, series=f"SeriesNumber={number}").voxels, truth(anatomy(10, seed=2)))
    written = "".join(path.read_text() for path in (tmp_path / "out").iterdir() if path.is_file())
    assert not [secret for secret in PHI[1:] if secret in written + printed.out]


def test_show_tags_escapes_what_a_terminal_would_obey(tmp_path: Path, journey, capsys) -> None:
    series = make_series()
    for dataset in series.slices:
        dataset.SeriesDescription = "a\x1b[2Jb"
    folder = series.write(tmp_path / "scan")
    main(
        [
            "predict",
            "-p",
            str(journey.plugin),
            "--device",
            "cpu",
            "-i",
            str(folder),
            "-o",
            str(tmp_path / "o"),
            "--show-tags",
        ]
    )
    assert "a\\x1b[2Jb" in capsys.readouterr().err


def test_pictures_and_single_slices_are_never_the_thinnest(tmp_path: Path) -> None:
    series = study({1: (6, 5.0, STRAIGHT)})
    page = copy.deepcopy(series.slices[0])
    setting(SOPClassUID=SECONDARY, SOPInstanceUID="1.2.9", SeriesInstanceUID="1.2.9.1", SeriesNumber=9)(page)
    series.slices += [page, *localizer(5)]
    assert read_volume(series.write(tmp_path / "scan"), series="thinnest axial").shape[2] == 6


def test_a_rule_knows_its_options(tmp_path: Path) -> None:
    rule = parse_rule("1a2b3c4d; EchoTime=4.6; thinnest axial; gaps=allow; stack=2; volume=3", tmp_path)
    assert (rule.series_hash, rule.plane, rule.best, rule.stack, rule.volume) == ("1a2b3c4d", "axial", "thinnest", 2, 3)
    assert rule.allow_gaps and not rule.allow_tilt and not rule.ignore_uids
    said = rule.spelled("tilt=allow")
    assert parse_rule(said, tmp_path).spelled("") == said
    assert with_options(" SeriesNumber=2; ", "gaps=allow", "tilt=allow") == "SeriesNumber=2; gaps=allow; tilt=allow"
    assert with_options(None) is None and SPACING


@pytest.mark.parametrize(
    ("rule", "is_repeated"),
    [
        ("SeriesNumber=3", True),
        ("ImageType=M", True),
        ("ImageType=MILLER", False),
        ("SeriesDescription=MILLER", False),
        ("SeriesDescription=12345", False),
        ("ProtocolName~=/x/", False),
        ("SeriesNumber=123456789012345", False),
    ],
)
def test_G1_a_message_repeats_numbers_and_codes_alone(tmp_path: Path, rule: str, is_repeated: bool) -> None:
    assert (parse_rule(rule, tmp_path).spelled("stack=1") is not None) == is_repeated


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    """What an archive exports: a folder for each study, one of them flat, one with a folder for each series."""
    root = tmp_path_factory.mktemp("tree") / "incoming"

    def of_study(number: int, series: Series) -> Series:
        for dataset in series.slices:
            dataset.StudyInstanceUID = f"{ROOT}90.{number}"
        return series

    flat = study({1: (6, 5.0, STRAIGHT), 2: (10, 1.0, STRAIGHT)})
    flat.slices += localizer(5)
    of_study(1, flat).write(root / "studyA")
    for number, (count, step, orientation) in {3: (8, 0.5, CORONAL), 4: (7, 2.0, STRAIGHT)}.items():
        of_study(2, study({number: (count, step, orientation)})).write(root / "studyB" / f"ser{number}")
    of_study(3, study({9: (5, 3.0, STRAIGHT)})).write(root / "studyC" / "ser3")
    (root / "studyC" / "notes.txt").write_text("x")
    return root


def predicted(words: list[str], capsys) -> dict[str, dict[str, str]]:
    main(words)
    return {row["case"]: row for row in json.loads(capsys.readouterr().out)}


def test_every_series_of_a_tree_is_found(tree: Path, journey, tmp_path: Path, capsys) -> None:
    common = ["predict", "-p", str(journey.plugin), "--device", "cpu", "--quiet", "--json", "-i", str(tree)]
    rows = predicted([*common, "-o", str(tmp_path / "a"), "--find-series"], capsys)
    assert len(rows) == 5 and {row["status"] for row in rows.values()} <= {"ok", "warn"}
    assert {"ser4", "incoming_studyB_ser3", "incoming_studyC_ser3"} < set(rows)
    assert sum(re.fullmatch(r"studyA_[0-9a-f]{8}", case) is not None for case in rows) == 2
    alone = [
        "predict",
        "-p",
        str(journey.plugin),
        "--device",
        "cpu",
        "--quiet",
        "--json",
        "-i",
        str(tree / "studyB" / "ser4"),
    ]
    (by_itself,) = predicted([*alone, "-o", str(tmp_path / "b")], capsys).values()
    assert by_itself["logit.block"] == rows["ser4"]["logit.block"]


@pytest.mark.parametrize(
    ("rule", "count"),
    [
        ("axial", 4),
        ("coronal", 1),
        ("SeriesNumber=3", 1),
        ("SeriesDescription~=/portal [24]/", 2),
        ("thinnest axial", 3),
    ],
)
def test_a_rule_leaves_series_of_a_tree_out(tree: Path, rule: str, count: int) -> None:
    from anymc3d.data.dicom.series_search import find_series

    found = find_series(tree, rule)
    assert len(found.series) == count and found.left_out == 6 - count
    for one in found.series:
        assert read_volume(one.reference, series=one.rule).shape[2] in (5, 6, 7, 8, 10)
    assert len({one.name for one in found.series}) == count


def test_a_tree_without_series_is_a_case_that_says_so(tmp_path: Path, journey, capsys) -> None:
    (tmp_path / "empty").mkdir()
    words = ["predict", "-p", str(journey.plugin), "--device", "cpu", "--quiet", "--json", "--find-series"]
    assert main([*words, "-i", str(tmp_path / "empty"), "-o", str(tmp_path / "out")]) == 4
    (row,) = json.loads(capsys.readouterr().out)
    assert "no DICOM scan found" in row["message"]


@pytest.mark.parametrize("inputs", [["a=x", "b=y"], ["table.csv"]])
def test_find_series_is_for_folders(tmp_path: Path, journey, capsys, inputs: list[str]) -> None:
    words = ["predict", "-p", str(journey.plugin), "--find-series", "-o", str(tmp_path / "out"), "-i", *inputs]
    assert main(words) == 2
    assert "--find-series" in capsys.readouterr().err
