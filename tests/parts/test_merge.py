"""Parts of a cohort: disjoint, and joined equal to the byte to one process; what does not fit is named, by part."""

import json
import resource
import shutil
from dataclasses import replace
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_work import found_in, once_killed, refused

from anymc3d.cli.main import main
from anymc3d.cli.merge import print_merged
from anymc3d.cli.options.parts import run_part
from anymc3d.data.manifest import read_manifest
from anymc3d.engines.table import run_local
from anymc3d.engines.work import EngineOptions, Outcome, Work
from anymc3d.errors import ProblemsError, RunFolderError, UsageError
from anymc3d.files.parts import RECORD, Part, parse_part, part_of
from anymc3d.files.tables import read_table, write_table
from anymc3d.parts import merge
from anymc3d.parts.merge import merge_parts
from anymc3d.parts.watch import progress_line
from anymc3d.predict.cohort import predict_cohort
from anymc3d.predict.predictor import load

OF = 3


@pytest.fixture(scope="module")
def predictor(journey):
    return load(journey.plugin, device="cpu")


@pytest.fixture(scope="module")
def cases(journey):
    """Nine, one of which is not there; an id that a spreadsheet would run."""
    found = read_manifest(journey.data / "manifest.csv").cases[:8]
    odd = replace(found[0], id='=odd, "case"')
    return [*found, odd, replace(found[0], id="gone", images={"image": str(journey.data / "gone.nii.gz")})]


@pytest.fixture(scope="module")
def whole(predictor, cases, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole")
    predict_cohort(predictor, cases, out, quiet=True)
    return out


@pytest.fixture(scope="module")
def split(predictor, cases, tmp_path_factory):
    out = tmp_path_factory.mktemp("split")
    for number in range(1, OF + 1):
        in_part(predictor, cases, out, Part(OF, number))
    return out


@pytest.fixture
def out(split, tmp_path):
    return shutil.copytree(split, tmp_path / "out")


def in_part(predictor, cases, out, part, **given_settings):
    with part_of(out, part, cases, given_settings) as (folder, mine):
        predict_cohort(predictor, mine, folder, quiet=True)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.text(max_size=9), unique=True, max_size=9), st.integers(1, 9), st.text())
def test_every_case_is_of_one_part_and_more_cases_move_none(names, of, more):
    parts = [Part(of, number) for number in range(1, of + 1)]
    owner = {name: [part for part in parts if part.takes(name)] for name in [*names, more]}
    assert all(len(found) == 1 for found in owner.values())


@pytest.mark.parametrize("text", ["0/3", "4/3", "1/0", "-1/3", "1", "a/b", "1/3/4", "", "1/100001"])
def test_a_part_that_is_none_is_wrong_use(text):
    with pytest.raises(UsageError, match="expected K/N"):
        parse_part(text)


def test_D5_joined_parts_are_what_one_process_writes(out, whole):
    merged = merge_parts(out)
    for name in ("predictions.csv", "predict.json"):
        assert (out / name).read_bytes() == (whole / name).read_bytes()
    assert (merged.parts, merged.cases, merged.failed, merged.exit_code) == (OF, 10, 1, 3)
    lines = [json.loads(line) for line in (out / "journal.jsonl").read_text().splitlines()]
    assert [line["case"] for line in lines] == [row["case"] for row in read_table(whole / "predictions.csv")]
    costs = [json.loads((path / "cost.json").read_text()) for path in (out, whole)]
    assert costs[0]["cases"] == costs[1]["cases"]


def test_refused_credentials_of_all_parts_are_counted_in_one_line(out, monkeypatch, capsys):
    monkeypatch.setattr(merge, "_REFUSED", "[E-scan-missing]")  # what the failed case of this cohort has
    print_merged(out, merge_parts(out), as_json=False, quiet=True)
    assert capsys.readouterr().err.startswith("warning: 1 case: a store refused the credentials; renew them")


def test_the_run_goes_on_in_the_joined_folder(out, predictor, cases, whole):
    merge_parts(out)
    result = predict_cohort(predictor, cases, out, quiet=True)
    assert result.computed == 1, "the one that had failed"
    assert (out / "predictions.csv").read_bytes() == (whole / "predictions.csv").read_bytes()


def test_a_part_that_ran_again_is_joined_again(out, predictor, cases):
    merge_parts(out)
    before = (out / "predictions.csv").read_bytes()
    in_part(predictor, cases, out, Part(OF, 2))
    assert merge_parts(out).parts == OF
    assert (out / "predictions.csv").read_bytes() == before


def test_what_is_missing_or_not_finished_is_named(out):
    shutil.rmtree(out / "parts" / "1-of-3")
    (out / "parts" / "3-of-3" / RECORD).unlink()
    with pytest.raises(ProblemsError, match=r"(?s)missing: part 1 of 3.*part 3/3 is not finished"):
        merge_parts(out)
    assert not (out / "predictions.csv").exists()


def test_parts_of_another_number_overlap_until_one_is_chosen(out, predictor, cases, whole):
    in_part(predictor, cases, out, Part(1, 1))
    with pytest.raises(UsageError, match="parts of 1 and 3, which overlap; say which with --of N"):
        merge_parts(out)
    for of in (3, 1):
        merge_parts(out, of)
        assert (out / "predictions.csv").read_bytes() == (whole / "predictions.csv").read_bytes()


def test_a_part_of_another_manifest_or_setting_is_named(out, predictor, cases):
    in_part(predictor, cases[:-1], out, Part(OF, 1))
    in_part(predictor, cases, out, Part(OF, 2), strict=True)
    with pytest.raises(
        ProblemsError, match=r"(?s)part 1/3 is of other cases.*part 2/3 is of other plugins or settings"
    ):
        merge_parts(out)


def test_a_part_of_another_plugin_is_named(out):
    record = out / "parts" / "2-of-3" / "predict.json"
    found = json.loads(record.read_text())
    name = next(iter(found["plugins"]))
    record.write_text(json.dumps(found | {"plugins": {name: "0" * 64}}))
    with pytest.raises(ProblemsError, match=rf"part 2/3 is of other plugins or settings .*plugins\.{name}"):
        merge_parts(out)


def test_a_table_that_was_changed_after_its_part_was_finished_is_refused(out):
    table = out / "parts" / "2-of-3" / "predictions.csv"
    table.write_bytes(table.read_bytes().replace(b"0.", b"1.", 1))
    with pytest.raises(ProblemsError, match=r"part 2/3: predictions.csv was changed or lost .*--part 2/3"):
        merge_parts(out)


def test_a_folder_of_another_run_is_left_alone(out):
    (out / "notes.txt").write_text("mine")
    with pytest.raises(RunFolderError, match=r"also holds notes\.txt"):
        merge_parts(out)


def test_progress_is_seen_from_outside(out):
    parts = [Part(OF, number) for number in (1, 2, 3)]
    assert progress_line(out, parts, 0, 10.0).startswith("parts: 3 of 3 finished, 10 cases done, 1 cases/s, 10 s")


def written(out):
    """All files but those of the parts."""
    return sorted(p.relative_to(out) for p in out.rglob("*") if p.is_file() and "parts" not in p.relative_to(out).parts)


def test_commands_split_and_join(journey, tmp_path, capsys):
    """``--jobs 1 --backend local`` is no split; two parts by hand, and heatmaps, which are files and no rows."""
    manifest = tmp_path / "four.csv"
    found = read_manifest(journey.data / "manifest.csv").cases[:4]
    write_table(manifest, ("case", "image"), [{"case": case.id, "image": case.images["image"]} for case in found])
    for command in (("predict",), ("explain", "--no-pictures")):
        common = [*command, "-p", str(journey.plugin), "-i", str(manifest), "--device", "cpu", "--quiet"]
        one, two = tmp_path / f"{command[0]}1", tmp_path / f"{command[0]}2"
        assert main([*common, "-o", str(one)]) == 0
        assert [main([*common, "-o", str(two), "--part", f"{k}/2"]) for k in (2, 1)] == [0, 0]
        assert main(["merge", str(two)]) == 0
        names = [written(folder) for folder in (one, two)]
        assert names[0] == names[1]
        kept = [name for name in names[0] if name.suffix in (".csv", ".gz")]
        assert kept and all((one / name).read_bytes() == (two / name).read_bytes() for name in kept)
    assert "2 parts" in capsys.readouterr().out
    assert main([*common, "-o", str(two), "--part", "1/2", "--jobs", "2"]) == 2


def test_work_that_its_process_took_with_it_is_begun_again_and_what_fails_says_why(tmp_path):
    work = [Work(name="a", call=partial(once_killed, tmp_path, "a"), recorded=partial(found_in, tmp_path, "a"))]
    work += [Work(name="b", call=partial(refused, "b"), recorded=partial(found_in, tmp_path, "b"))]
    outcomes = {outcome.job: outcome for outcome in run_local(work, EngineOptions(jobs=2, retries=1))}
    assert outcomes == {"a": Outcome("a", "done"), "b": Outcome("b", "failed", "the disk is full", 2)}


def test_a_full_disk_of_one_part_is_one_line_and_the_others_are_unharmed(journey, tmp_path, capsys):
    out, manifest = tmp_path / "out", tmp_path / "four.csv"
    found = read_manifest(journey.data / "manifest.csv").cases[:4]
    write_table(manifest, ("case", "image"), [{"case": case.id, "image": case.images["image"]} for case in found])
    words = ["predict", "-p", str(journey.plugin), "-i", str(manifest), "-o", str(out), "--device", "cpu", "--quiet"]
    run = [partial(run_part, [*words, "--part", f"{number}/2"], f"part {number}/2") for number in (1, 2)]
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (700, limit[1]))  # as ulimit -f: writing beyond fails as a full disk does
    try:
        full = run[0]()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert full.state == "failed" and "1-of-2" in full.message and "\n" not in full.message
    assert "File too large" in full.message and capsys.readouterr().err.count("\n") == 1
    assert run[1]().state == "done"
    with pytest.raises(ProblemsError, match="part 1/2 is not finished"):
        merge_parts(out)
    assert run[0]().state == "done" and merge_parts(out).cases == 4
