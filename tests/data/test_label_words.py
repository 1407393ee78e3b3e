"""B14: the negated or healthy name is the negative class in any language, and codes for "not known" are no class."""

import pytest

from anymc3d.data.label_words import MISSING_WORDS, doubtful, negative_first, polarity, stand_for_missing

NEGATIVE_THEN_POSITIVE = """
not injured|injured
NotInjured|Injured
non-COVID|COVID
nonCOVID|COVID
Nein|Ja
n|j
N|Y
CN|AD
cognitively normal|MCI
HC|SZ
wildtype|mutant
IDH-wt|IDH-mut
WT|MUT
control|case
healthy|patient
benign|malignant
benign tumor|cancer
normal|abnormal
normal|not normal
healthy|unhealthy
unaffected|affected
uninfected|infected
nonresponder|responder
inactive|active
asymptomatic|symptomatic
non-pCR|pCR
none|mild
no finding|finding
no progression|progression
no fracture seen|fracture
without stenosis|stenosis
without tumor|with tumor
tumour free|relapse
tumour-free|tumour
PE negative|PE positive
HER2-|HER2+
lack of response|response
no evidence of disease|disease
B|M
FALSE|TRUE
ohne Befund|Befund
keine Blutung|Blutung
fieberfrei|fieber
gesund|krank
Non|Oui
sans anomalie|anomalie
pas d'anomalie|anomalie
négatif|positif
no|sí
sin lesión|con lesión
não|sim
sem lesão|lesão
senza frattura|frattura
geen tumor|tumor
bez zmian|zmiany
hayır|evet
kanama yok|kanama var
нет|да
без опухоли|опухоль
无|有
alive|dead
survived|died
without|with
ohne|mit
absence|presence
off|on
M0|M1
N0|N+
volunteer|patient
negatief|positief
Typically developing|Autism
отсутствует|присутствует
健常|患者
无出血|有出血
阴性|阳性
出血なし|出血あり
"""


@pytest.mark.parametrize("pair", NEGATIVE_THEN_POSITIVE.split("\n")[1:-1])
def test_B14_the_denied_or_healthy_name_is_negative(pair):
    negative, positive = pair.split("|")
    assert negative_first(negative, positive) == ((negative, positive), True)
    assert negative_first(positive, negative) == ((negative, positive), True)


UNTOLD = (
    "HGG|LGG,left|right,M|F,male|female,1|2,grade 1|grade 2,No. 1|No. 2,MCI|AD,active|passive,in situ|invasive"
    ",adenoma|carcinoma,anterior|posterior,luminal|basal,low|high,T1|T2,B10|B11,progressive|stable"
)


@pytest.mark.parametrize("pair", UNTOLD.split(","))
def test_names_that_say_nothing_stay_a_guess(pair):
    first, second = pair.split("|")
    assert negative_first(first, second) == ((first, second), False)


def test_a_negation_of_something_healthy_is_positive():
    assert [polarity(text) for text in ("not normal", "non-benign", "not injured", "abnormal")] == [1, 1, -1, 1]


BESIDE_0_AND_1 = "-1 -4 -9 9 99 88 999 -999 5 777 unclear X NotDone ? unbekannt 不明"


@pytest.mark.parametrize(
    ("values", "codes"),
    [
        *((f"0 1 {code}", code) for code in BESIDE_0_AND_1.split()),
        *((f"yes no {code}", code) for code in ("unknown", "maybe", "None", "9", "-1", "missing", "U", "n.d.")),
        *(
            (f"{pair} {code}", code)
            for pair, code in (("ja nein", "unklar"), ("да нет", "неизвестно"), ("是 否", "未知"))
        ),
        ("1 2 9", "9"),
        ("0 1 2 3 99", "99"),
        ("0 1 8 9", "8 9"),
        ("0 1 -9 -8", "-8 -9"),
        ("0 9", "9"),
        ("-1 1", "-1"),
        ("2 3 -9", "-9"),
        ("2 3 4 5 99", "99"),
        ("benign malignant unknown", "unknown"),
        ("1 2 3 missing", "missing"),
    ],
)
def test_B14_codes_for_not_known_are_no_class(values, codes):
    found = stand_for_missing(values.split())
    assert sorted(found) == sorted(codes.split())
    assert len(set(found.values())) == 1


HONEST = (
    "0 1 2|1 2 3|0 1|yes no|a b c|0 1 2 3 4 5 6 7 8 9|1 2 3 4 5|-2 -1 0 1 2|6 7 8 9 10|7 8 9|2 3 4|0 I II|0 1 1a"
    "|0 2 4|CN MCI AD|benign malignant indeterminate|mild moderate severe|yes no partial"
)


@pytest.mark.parametrize("values", HONEST.split("|"))
def test_honest_classes_stay(values):
    assert stand_for_missing(values.split()) == {}


def test_a_third_class_beside_two_answers_is_said_to_be_one():
    assert doubtful(["0", "0.5", "1"]) == ["0.5"]
    assert doubtful(["no", "partial", "yes"]) == ["partial"]
    assert doubtful(["0", "1", "2"]) == doubtful(["a", "b", "c"]) == []


def test_words_of_other_programs_are_lower_case():
    assert all(word == word.lower() for word in MISSING_WORDS)
