"""What a run says, and how it reckons what a step takes: without a run."""

from types import SimpleNamespace

import pytest

from anymc3d.automl import numbers, page, steps
from anymc3d.automl import run as auto_run
from anymc3d.automl.checks import check_examined
from anymc3d.automl.data import AutoData
from anymc3d.cli.completion import whole_parser
from anymc3d.doctor.checks import Finding
from anymc3d.errors import ManifestError


def cut(row, side="left"):
    return Finding("mask-cut", f"the region ends at the {side} border", (f"p{row}",), (row,), "mask")


def test_what_the_doctor_found_is_one_line_a_check_with_its_rows_and_no_id():
    few = check_examined(SimpleNamespace(findings=(cut(4),)))
    assert few == ["mask-cut: mask: the region ends at the left border (row 4 of the manifest)"]
    many = check_examined(SimpleNamespace(findings=tuple(cut(row, f"{row}th") for row in range(2, 10))))
    (line,) = many
    assert line.startswith(
        "mask-cut: mask: 8 findings; the first: the region ends at the 2th border (rows 2, 3, 4, 5, 6 and 3 "
    )
    assert "p4" not in line
    damaged = [Finding("scan-unreadable", "not a scan", (f"p{row}",), (row,), "image") for row in (3, 9)]
    with pytest.raises(ManifestError) as raised:
        check_examined(SimpleNamespace(findings=tuple(damaged)))
    assert list(raised.value.problems) == ["scan-unreadable: image: not a scan (rows 3, 9 of the manifest)"]


def test_simple_methods_win_only_over_something():
    plain, frozen = (SimpleNamespace(candidate=SimpleNamespace(kind=kind)) for kind in ("plain", "frozen"))
    alone = page._simple_won(SimpleNamespace(scored=[plain]), ["voxels"], "AUROC 0.9")
    assert alone == "Only simple methods were compared, no network (the notes say why): voxels, AUROC 0.9."
    won = page._simple_won(SimpleNamespace(scored=[plain, frozen]), ["voxels"], "AUROC 0.9")
    assert won == "The simple method wins: voxels, without a network, AUROC 0.9."
    several = page._simple_won(SimpleNamespace(scored=[plain, frozen]), ["a", "b", "c"], "AUROC 0.9")
    assert several.startswith("Simple methods win: a, b and c together, without")


def test_an_answer_is_there_before_a_step_that_ends_after_its_share_of_the_time_and_is_written_once(monkeypatch):
    written = []
    monkeypatch.setattr(steps, "write", lambda work, final: written.append(len(work.scored)))
    clock = SimpleNamespace(spent_s=10.0, total_s=100.0, left_s=90.0)
    work = SimpleNamespace(clock=clock, scored=["one"], answered=0, folder=SimpleNamespace(path="best"))
    steps._answer_in_time(work, 5.0)
    assert not written
    steps._answer_in_time(work, 15.0)
    steps._answer_in_time(work, 15.0)
    steps._first_answer(work)
    assert written == [1]
    work.scored.append("two")
    steps._first_answer(work)
    assert written == [1, 2]


def test_neither_the_first_scan_nor_one_that_is_far_larger_decides_what_measuring_takes(monkeypatch):
    seconds = iter([9.0, 0.1, 30.0, 0.2])
    monkeypatch.setattr(numbers, "_timed", lambda what: (next(seconds), what()))
    assert numbers._usual_s(lambda number: None, 4) == 0.2


def test_sites_that_cannot_be_left_out_are_said_to_be(monkeypatch):
    notes = []

    def work(by_site, column="site"):
        data = SimpleNamespace(site=column, by_site=lambda: by_site)
        fits = SimpleNamespace(of=lambda count: 0.0)
        decide = {"decide": lambda what, goes: True, "left_s": lambda share: 1.0, "in_order": list, "settings": None}
        return SimpleNamespace(data=data, note=notes.append, fits=fits, sites=None, **decide)

    monkeypatch.setattr(auto_run, "clinical_of", lambda work: None)
    monkeypatch.setattr(auto_run, "leave_sites_out", lambda *_: None)
    auto_run._leave_sites_out(work(None, ""))
    assert not notes
    auto_run._leave_sites_out(work(None))
    auto_run._leave_sites_out(work(SimpleNamespace(fold_names=("a", "b"))))
    assert notes == [
        "leave one site out: left out, outside the test split all cases have the same site",
        "leave one site out: left out, without one of them an outcome has fewer than two patients",
    ]


def test_masks_must_be_there_of_the_test_split_too_and_the_note_says_how_many_are_not():
    def case(*masks):
        return SimpleNamespace(images=("ed", "es"), mask=dict(zip(("ed", "es"), masks, strict=True)).get)

    lists = SimpleNamespace(cases=[case("a", "b"), case("a", None)], test_cases=[case("a", "b"), case(None, None)])
    assert AutoData.without_mask.fget(lists) == 2
    notes = []
    data = SimpleNamespace(without_mask=1, cases=[0] * 50, test=[0] * 10)
    steps._plain(SimpleNamespace(data=data, note=notes.append), "mask-size", None, [])
    data.without_mask = 60
    steps._plain(SimpleNamespace(data=data, note=notes.append), "mask-size", None, [])
    assert notes == [
        "mask-size: left out, it needs a mask of every scan; 1 of 60 cases lack one: give it, or take them out",
        "mask-size: left out, it needs a mask of every scan",
    ]


def test_cases_of_the_test_split_without_an_answer_are_said():
    summary = {"test": {"not_answered": 1}, "cases": {"test": 10}}
    assert page.lacks_answers(summary) == ", but 1 of 10 cases could not be answered"
    assert page.lacks_answers({**summary, "test": {"not_answered": 0}}) == ""


def test_a_few_cases_that_an_earlier_run_kept_do_not_stand_for_the_rest():
    asked = []

    def seconds_at(slow):
        return lambda place: (asked.append(place), 0.2 if place in slow else 0.001)[1]

    assert numbers._of_the_rest(0.19, 0.2, 100, seconds_at(set())) == 0.19
    assert not asked, "they were not kept"
    assert numbers._of_the_rest(0.001, 0.2, 100, seconds_at({50})) == 0.2
    assert numbers._of_the_rest(0.001, 0.2, 100, seconds_at({25, 75})) == 0.2
    assert asked == [50, 50, 25]
    assert numbers._of_the_rest(0.001, 0.2, 100, seconds_at(set())) == 0.001, "all are kept"


def test_a_test_split_that_is_left_out_comes_with_two_commands_that_are_whole():
    folder = SimpleNamespace(plugin="best/plugin.safetensors", test="best/test")
    work = SimpleNamespace(folder=folder, data=SimpleNamespace(manifest=SimpleNamespace(path="cases.csv")))
    said = steps.without_test(work, "no time").split("'")[1::2]
    predict, evaluate = (whole_parser().parse_args(command.split()[1:]) for command in said)
    assert str(predict.out) == "best/test"
    assert str(evaluate.out).startswith("best/test/")
