"""Rules: which series of a study goes to which plugin; none and several; each decision with its reason."""

from dataclasses import replace

import pytest

import dicom_makers as dicom
from anymc3d.errors import UsageError
from anymc3d.plugins import load_plugin
from anymc3d.predict.predictor import Predictor
from anymc3d.serve.answering import answer
from anymc3d.serve.node_settings import NodeSettings
from anymc3d.serve.routing import route
from anymc3d.serve.rules import Rules, check_names, read_rules
from anymc3d.serve.settings import ServeSettings
from anymc3d.settings.plain import from_plain


def rules_of(*rules):
    problems = []
    found = from_plain(Rules, {"format": 1, "rules": [{"plugin": "block"} | rule for rule in rules]}, problems)
    assert not problems, problems
    return found


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """One study: an axial series, an oblique one and a thicker axial one, of the numbers 1, 2 and 3."""
    folder = tmp_path_factory.mktemp("study")
    dicom.make_series(sop_class=dicom.MR, series=1).write(folder / "1")
    dicom.make_series(sop_class=dicom.MR, series=2, orientation=dicom.OBLIQUE).write(folder / "2")
    third = dicom.make_series(sop_class=dicom.MR, series=3, stored=dicom.anatomy(5))
    for index, dataset in enumerate(third.slices):
        dataset.ImagePositionPatient = [-20.0, 5.0, 40.0 + 4 * index]
    third.write(folder / "3")
    return folder


@pytest.mark.parametrize(
    ("rule", "decision", "reason"),
    [
        ({"series": "SeriesNumber=2"}, "answered", "of 3 fits"),
        ({"series": "SeriesNumber=9"}, "skipped", "none of 3 series fits"),
        ({"series": "SeriesNumber=9", "none": "error"}, "refused", "none of 3 series fits"),
        ({"series": "axial"}, "refused", "2 of 3 series fit"),
        ({"series": "axial", "several": "thinnest"}, "answered", "the thinnest is taken"),
        ({"series": "thinnest", "several": "thickest"}, "refused", "one is expected"),
        ({"series": "axial", "study": "Modality=CT"}, "skipped", "for other studies"),
        ({"views": {"a": "SeriesNumber=1", "b": "SeriesNumber=2"}}, "answered", "b: series"),
        ({"views": {"a": "SeriesNumber=1", "b": "SeriesNumber=9"}}, "skipped", "b: none of 3"),
    ],
)
def test_every_decision_has_its_reason(study, rule, decision, reason):
    routes = route(study, "c", rules_of(rule))
    (found,) = routes.decisions
    assert (found.decision, found.rule, found.plugin) == (decision, 1, "block") and reason in found.reason
    assert len(routes.asked) == (decision == "answered") and len(routes.refused) == (decision == "refused")
    assert not [word for word in dicom.PHI if word in str(routes.record())]


def test_the_first_rule_of_a_plugin_that_fits_counts_and_equal_series_are_read_together(study):
    rules = rules_of(
        {"series": "SeriesNumber=9"},
        {"series": "SeriesNumber=1"},
        {"series": "SeriesNumber=2"},
        {"series": "SeriesNumber=1", "plugin": "other"},
    )
    routes = route(study, "c", rules)
    ((case, plugins),) = routes.asked
    assert plugins == ["block", "other"] and case.series("image") == "SeriesNumber=1"
    assert [one.decision for one in routes.decisions] == ["skipped", "answered", "skipped", "answered"]
    assert routes.decisions[2].reason == "rule 2 is before it"


def test_a_service_with_rules_answers_each_plugin_with_its_series(study, journey, tmp_path):
    plugin = load_plugin(journey.plugin)
    other = replace(plugin, card=replace(plugin.card, name="other"))
    predictor = Predictor([plugin, other], device="cpu")
    rules = rules_of({"series": "SeriesNumber=1"}, {"plugin": "other", "series": "SeriesNumber=3"})
    settings = ServeSettings(
        plugins=("p",), store=tmp_path, heatmaps=False, node=NodeSettings(rules=rules, objects=("sr",))
    )
    request = {"scan": str(study), "case": "c", "results": str(tmp_path / "results")}
    found = answer(predictor, request, settings)
    expected = [predictor.only([name]).predict(study, series=f"SeriesNumber={n}") for name, n in rules_and_series()]
    assert [row["plugin"] for row in found["rows"]] == ["block", "other"]
    for row, one in zip(found["rows"], expected, strict=True):
        assert row["logit.block"] == pytest.approx(one.logits["block"], abs=1e-6)
    assert len(found["record"]["scans"]) == 2 and len(found["record"]["routing"]) == 2
    highdicom = pytest.importorskip("highdicom")
    report = highdicom.sr.srread(tmp_path / "results" / "answers.sr.dcm")
    groups = report.content.get_image_measurement_groups()
    assert [len(group.source_images) for group in groups] == [8, 5]

    nothing = replace(settings, node=NodeSettings(rules=rules_of({"series": "SeriesNumber=9"})))
    found = answer(predictor, request, nothing)
    assert found["rows"] == [] and found["message"] == "no rule takes a series of this study"
    found = answer(predictor, request | {"series": "SeriesNumber=2", "plugins": ["block"]}, nothing)
    assert found["rows"][0]["status"] != "error" and "routing" not in found["record"]


def rules_and_series():
    return (("block", 1), ("other", 3))


def test_a_damaged_study_is_an_error_of_every_plugin_with_a_rule(tmp_path, journey):
    series = dicom.make_series(sop_class=dicom.MR)
    series.extra = {"broken.dcm": b"\0" * 128 + b"DICM" + b"\xff" * 50}
    settings = ServeSettings(
        plugins=("p",), store=tmp_path, node=NodeSettings(rules=rules_of({"series": "axial"}, {"series": "coronal"}))
    )
    request = {"scan": str(series.write(tmp_path / "s")), "case": "c", "results": str(tmp_path / "r")}
    found = answer(Predictor([load_plugin(journey.plugin)], device="cpu"), request, settings)
    assert [row["status"] for row in found["rows"]] == ["error"] and "may lack slices" in found["rows"][0]["message"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("format: 1\nrules: []\n", "at least one rule"),
        ("format: 1\nrules:\n- {plugin: a}\n", "either series or views"),
        ("format: 1\nrules:\n- {plugin: a, serie: axial}\n", "did you mean 'series'"),
        ("format: 1\nrules:\n- {plugin: a, series: axail}\n", "axial"),
        ("format: 1\nrules:\n- {plugin: a, series: 'PatientName=x'}\n", "cannot be asked for"),
        ("format: 1\nrules:\n- {plugin: a, series: axial, several: first}\n", "several"),
        ("format: 1\nrules:\n- &a {plugin: a, series: axial}\n- *a\n", "aliases"),
        ("format: 1\nrules:\n- {plugin: a, series: 'SeriesDescription~=/(/'}\n", "regular expression"),
    ],
)
def test_A12_a_wrong_file_of_rules_says_what_and_where(tmp_path, text, expected):
    (tmp_path / "rules.yaml").write_text(text)
    with pytest.raises(UsageError, match=expected):
        read_rules(tmp_path / "rules.yaml")


def test_rules_name_plugins_that_are_there():
    with pytest.raises(UsageError, match="did you mean 'block'"):
        check_names(rules_of({"plugin": "blok", "series": "axial"}), ["block"])
