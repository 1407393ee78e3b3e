"""B12: ids and headers that programs spell another way are one, and those of two people stay apart."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anymc3d.files.spelling import bare, id_key, matches, one_spelling, spellings


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("101", "101.0"),
        ("101", "101,0"),
        ("1234567", "1.234567e+06"),
        ("P-101", "P_101"),
        ("P 101", "P101"),
        ("P–101", "P-101"),
        ("sub-101", "101"),
        ("sub-P0101", "101"),
        ("patient_7", "007"),
        ("ABC-7", "abc_007"),
        ("１０１", "101"),
        ("A\u200b1", "a1"),
        ("Mu\u0308ller-3", "Müller 3"),
    ],
)
def test_B12_what_programs_add_or_exchange_leaves_one_id(first, second):
    assert id_key(first) == id_key(second)
    assert spellings([first, second, "other"]) == [[first, second]]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("101", "102"),
        ("A-1", "A-11"),
        ("1-11", "11-1"),
        ("A1", "B1"),
        ("C101", "P101"),
        ("101a", "101b"),
        ("P", "S"),
        ("1.5", "15"),
        ("-", "_"),
        ("", "0"),
    ],
)
def test_ids_of_two_people_stay_apart(first, second):
    assert id_key(first) != id_key(second)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.integers(1, 9999), min_size=2, max_size=12, unique=True),
    st.data(),
)
def test_B12_any_rewriting_of_numbers_finds_exactly_its_own(numbers, data):
    ways = ["{0}", "{0}.0", "{0:06d}", "P{0}", "p-{0}", "sub-{0:05d}", "Patient {0}", " {0} "]
    written = [data.draw(st.sampled_from(ways)).format(number) for number in numbers]
    assert [id_key(text) for text in written] == [(str(number),) for number in numbers]
    assert spellings(written) == []
    assert matches(written, [f"sub-{number}" for number in numbers]) == {
        text: f"sub-{number}" for text, number in zip(written, numbers, strict=True) if text != f"sub-{number}"
    }


def test_only_pairs_that_are_alone_on_both_sides_are_matched():
    assert matches(["1", "01"], ["001"]) == {}
    assert matches(["1"], ["01", "001"]) == {}
    assert matches(["1", "2"], ["1", "002"]) == {"2": "002"}


def test_one_spelling_does_not_depend_on_the_order():
    assert one_spelling(["P1", "p-1", "2"]) == ["P1", "P1", "2"]
    assert one_spelling(["p-1", "2", "P1"]) == ["P1", "2", "P1"]


def test_headers_are_compared_without_what_separates_their_words():
    assert (
        len({bare(text) for text in ("Patient ID", "patient.id", "PATIENT_ID", "patient-id", "Patient\u200bId")}) == 1
    )
