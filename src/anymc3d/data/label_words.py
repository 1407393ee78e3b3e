"""What the names of classes say: which one is negative, and which stand for "not known".

Of two names the negated one is the negative class (``not injured``, ``non-COVID``, ``ohne Befund``), then words as
``control`` and ``malignant`` decide; what is left is a guess. Letter case, accents and other signs do not matter.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Mapping

from anymc3d.files.spelling import as_seen

_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def words_of(text: str) -> str:
    """Lower-case words without accents and signs, one blank between: ``NotInjured`` and ``not-injured`` are one."""
    parts = unicodedata.normalize("NFKD", as_seen(_HUMP.sub(" ", text)))
    plain = "".join(sign for sign in parts if unicodedata.category(sign) != "Mn")
    return " ".join(re.findall(r"[^\W_]+", unicodedata.normalize("NFC", plain)))


def _listed(*lines: str) -> frozenset[str]:
    return frozenset(words_of(word) for line in lines for word in line.split("|"))


_POSITIVE = _listed(
    "yes|y|true|t|positive|pos|present|abnormal|malignant|diseased|disease|cancer|affected|detected|pathological",
    "with|presence|dead|died|deceased|aanwezig|positief|obecny|присутствует|mit|on",
    "mutant|pathologic|mutated|mut|ja|j|oui|si|sim|da|tak|ano|igen|kyllä|evet|nai|hai|vrai|wahr|verdadero",
    "verdadeiro|vero|prawda|waar|sann|doğru|positiv|positivo|positiva|positif|pozitiv|pozitivní|dodatni|krank",
    "pathologisch|malade|enfermo|malato|doente|bösartig|maligne|maligno|да|д|истина|положительный|ναι|θετικό|是",
    "有|真|阳性|陽性|恶性|悪性|异常|異常|はい|あり|예|네|있음|양성|نعم|כן",
)
_NEGATIVE = _listed(
    "no|n|false|f|negative|neg|normal|benign|healthy|control|controls|ctrl|ctl|absent|none|cn|nc|nl|hc|td|tdc|wt",
    "without|absence|off|alive|survived|survivor|living|ned|hv|volunteer|volunteers|cont|typically developing",
    "afwezig|negatief|brak|отсутствует|健常|健常者|ohne|sans|sin|senza|sem|bez|без|zonder|utan|uten|uden",
    "wild|wildtype|wild type|wildtyp|unremarkable|intact|nein|non|não|nej|nee|nei|ne|nie|nem|ei|hayır|oxi|faux",
    "falsch|falso|fałsz|onwaar|falskt|negativ|negativo|negativa|négatif|negativní|ujemny|gesund|kontrolle",
    "kontroll|kontrolli|sain|témoin|sano|sana|saudável|controle|controllo|controlo|gezond|frisk|zdrowy|benigno",
    "bénin|bénigne|gutartig|unauffällig|regular|typical|нет|н|ложь|норма|здоров|здоровый|отрицательный|контроль",
    "όχι|αρνητικό|υγιής|否|无|無|没有|假|阴性|陰性|正常|健康|良性|いいえ|なし|아니오|아니요|없음|음성|정상|لا|לא",
)
_BEFORE = _listed(
    "not|no|non|without|w/o|lacks|lacking|lack of|absence of|free of|negative for|excluded|never|nicht|kein|keine",
    "keinen|keiner|keinerlei|ohne|sans|pas|pas de|pas d'|aucun|aucune|sin|ningún|ninguna|não|sem|nenhum|nenhuma",
    "senza|nessun|nessuna|geen|niet|zonder|nie|ingen|inte|ej|icke|utan|ikke|uden|uten|bez|brak|není|ei|nem|nincs",
    "nélkül|не|нет|без|отсутствие|χωρίς|δεν|όχι|no evidence of|no sign of|no signs of|kein hinweis auf",
)
"""Negations that are words of their own, before what they deny."""
_BEHIND = _listed(
    "free|negative|neg|absent|excluded|none|no|not detected|not seen|not present|not found|ruled out|frei|negativ",
    "negativo|négatif|değil|yok|yoktur|nincs|отсутствует|なし|無し|없음",
)
_GLUED_BEFORE = [
    "non",
    "un",
    "in",
    "im",
    "a",
    "an",
    "ne",
    "nie",
    "не",
    "без",
    "非",
    "无",
    "無",
    "未",
    "不",
    "没有",
    "沒有",
    "비",
    "غير",
]
_GLUED_BEHIND = [
    "los",
    "frei",
    "free",
    "less",
    "siz",
    "suz",
    "sız",
    "fri",
    "loos",
    "vrij",
    "なし",
    "無し",
    "ない",
    "ではない",
    "없음",
]
"""Negations that are parts of a word; they count only where the rest is the other class."""
_AFFIRMED = ["有", "具有", "あり", "有り", "있음", "with", "mit", "avec", "con", "com", "met", "med", "var"]
"""What stands beside the thing where it is not denied."""
_SHORT_WORDS = _listed("mut|wt|cn|hc|ctl|pos|neg")
_LETTERS = frozenset(("ny", "ft", "nj", "no", "ns", "np", "bm", "нд"))
"""One letter each, the negative first; a letter alone says nothing."""
_LONG = 4
"""Shorter words inside a name say nothing: ``da``, ``ne`` and ``si`` are answers only alone."""
_YES_NO = _listed(
    "yes|no|y|n|true|false|t|f|ja|nein|j|oui|non|si|sim|não|da|ne|tak|nie|ano|igen|nem|kyllä|evet|hayır|nej|nee",
    "nei|nai|oxi|vrai|faux|wahr|falsch|verdadero|falso|vero|verdadeiro|positive|negative|pos|neg|present|absent",
    "positiv|negativ|да|нет|д|н|ναι|όχι|是|否|有|无|無|はい|いいえ|예|네|아니오|아니요|نعم|لا|כן|לא|阳性|阴性",
    "陽性|陰性|양성|음성",
)
_NOT_KNOWN = _listed(
    "unknown|unk|ukn|not known|missing|not available|unavailable|not done|nd|n d|not applicable|not assessed",
    "not evaluated|not evaluable|not reported|not recorded|not documented|not tested|not performed|not determined",
    "undetermined|pending|unspecified|not specified|not stated|not given|no data|no information|no info|no answer",
    "no result|tbd|refused|declined|don't know|dont know|do not know|blank|empty|undefined|unassigned|unlabeled",
    "unlabelled|not labeled|not labelled|nan|na|n a|null|nil|not interpretable|not readable|unbekannt|fehlt",
    "fehlend|keine angabe|keine angaben|k a|nicht bekannt|nicht verfügbar|nicht erhoben|nicht beurteilbar|inconnu",
    "inconnue|manquant|non disponible|non renseigné|non connu|desconocido|desconocida|no sabe|no disponible",
    "sin datos|faltante|sconosciuto|non noto|mancante|desconhecido|ignorado|sem dados|não informado|onbekend",
    "okänd|okänt|ukjent|ukendt|saknas|nieznany|nieznane|brak danych|neznámý|neznámo|ismeretlen|tuntematon",
    "bilinmiyor|неизвестно|нет данных|не известно|άγνωστο|不明|未知|不详|缺失|欠損|未検査|미상|모름",
)
_UNSURE = _listed(
    "unclear|uncertain|unsure|not sure|indeterminate|equivocal|maybe|perhaps|possible|possibly|probable",
    "borderline|questionable|suspected|doubtful|inconclusive|unklar|unsicher|fraglich|vielleicht|eventuell",
    "incertain|douteux|peut-être|incierto|dudoso|dudosa|incerto|talvez|dubbio|forse|onzeker|misschien|osäker",
    "kanske|niepewny|неясно|возможно|不确定|可疑|疑い",
)
"""Beside yes and no these are no third class; beside names of diseases they may be one."""
MISSING_WORDS = frozenset(
    ("nan", "na", "n/a", "#n/a", "n.a.", "null", "nil", "?", "??", ".", "-", "--", "<na>", "nat", "#value!", "#ref!")
)
"""Other programs' missing values. Here a missing label is an empty cell, so these are refused, never made a class."""
_REGISTRY = re.compile(r"([6-9])\1*|9+[5-8]")
"""Numbers that registries write for "not known": 9, 99, 88, 777, 998, …"""
_FAR = 5
"""From here on no next grade, where there is none between it and 1."""
_THREE = 3
_LARGEST_CHANGE = 1
"""-1, 0, 1 may be a change or a code, -2 … 2 is a change."""


def polarity(text: str) -> int:
    """1 where the words say a positive class, -1 a negative one, 0 where they say nothing."""
    words = words_of(text)
    if len(words) == 1 and words.isascii():
        return 0  # F is false or female
    if words in _POSITIVE or words in _NEGATIVE:
        return 1 if words in _POSITIVE else -1
    rest = _without_negation(words)
    if rest and not rest.isdecimal():
        return -(polarity(rest) or 1)
    parts = {word for word in words.split() if len(word) >= _LONG or word in _SHORT_WORDS}
    return bool(parts & _POSITIVE) - bool(parts & _NEGATIVE)


def negative_first(first: str, second: str) -> tuple[tuple[str, str], bool]:
    """The two classes as (negative, positive), and whether their names say so; otherwise they stay as they are."""
    letters = as_seen(first) + as_seen(second)
    if letters in _LETTERS or letters[::-1] in _LETTERS:
        return ((first, second) if letters in _LETTERS else (second, first)), True
    votes = [_stage(first, second), _stage(second, first)]
    if not any(votes):
        votes = [polarity(first), polarity(second)]
    for place, (text, other) in enumerate(((first, second), (second, first))):
        if _is_denied(text, other):
            base = polarity(other) or 1
            votes[place], votes[1 - place] = -base, base
    if votes[0] == votes[1]:
        return (first, second), False
    return ((first, second) if votes[0] < votes[1] else (second, first)), True


def _stage(text: str, other: str) -> int:
    """-1 for ``M0`` beside ``M1``, ``N0`` beside ``N+``; 1 for those; else 0."""
    words_a, theirs = (as_seen(words).strip() for words in (text, other))
    if len(words_a) < 2 or words_a[:-1] != theirs[:-1] or words_a[-2].isdecimal():
        return 0
    return {("0", "1"): -1, ("0", "+"): -1, ("1", "0"): 1, ("+", "0"): 1}.get((words_a[-1], theirs[-1]), 0)


def _without_negation(words: str) -> str:
    """What the longest negation before or behind it leaves; empty where there is none."""
    rests = [words[len(start) + 1 :] for start in _BEFORE if words.startswith(f"{start} ")]
    rests += [words[: -len(end) - 1] for end in _BEHIND if words.endswith(f" {end}")]
    return min(rests, key=len, default="")


def _is_denied(text: str, other: str) -> bool:
    """Whether ``text`` is ``other`` with a negation inside the word: ``nonresponder``, ``fieberfrei``."""
    denied, theirs = (words_of(words).replace(" ", "") for words in (text, other))
    if denied == theirs:  # 'tumour -' beside 'tumour +'
        return text.strip()[-1:] in ("-", "\u2212") and other.strip()[-1:] == "+"
    bases = {theirs, *(theirs.removeprefix(sign) for sign in _AFFIRMED), *(theirs.removesuffix(s) for s in _AFFIRMED)}
    bases = {base for base in bases if len(base) > 1 or not base.isascii()}
    return any(denied == f"{sign}{base}" for base in bases for sign in _GLUED_BEFORE) or any(
        denied == f"{base}{sign}" for base in bases for sign in _GLUED_BEHIND
    )


def stand_for_missing(values: Collection[str]) -> Mapping[str, str]:
    """Of the values of one label column those that mean "not known", each with the values beside it.

    A text or a far number beside 0 and 1 or beside yes and no; a registry's number (-9, 99) beside 0, 1 … or 1, 2, …;
    a word such as ``unknown`` beside anything. Three honest classes are none. Numbers are in one spelling.
    """
    numbers = {value: float(value) for value in values if _NUMBER.fullmatch(value)}
    texts = [value for value in values if value not in numbers]
    words = {text: words_of(text) for text in texts}
    missing = {text for text in texts if words[text] in _NOT_KNOWN or (not words[text] and text.strip("+-\u2212"))}
    codes = _codes(numbers)
    answers = [text for text in texts if words[text] in _YES_NO]
    if {value for text, value in numbers.items() if text not in codes} == {0.0, 1.0}:
        missing |= {text for text in texts if not any(sign.isdigit() for sign in text)} | codes
    elif len(answers) == 2 and negative_first(*answers)[1]:
        missing |= {*numbers, *(text for text in texts if _says_nothing(words[text]))} - {*answers}
    elif numbers and missing >= set(texts):
        missing |= codes
    others = [value for value in values if value not in missing]
    examples = ", ".join(others[:-1][:3]) + (" and " if len(others) > 1 else "") + (others[-1] if others else "")
    return dict.fromkeys((value for value in values if value in missing), examples) if others else {}


def says_not_known(text: str) -> bool:
    """Whether a cell says in itself that the value is not known, in words or in another program's sign for it."""
    return text.strip().lower() in MISSING_WORDS or words_of(text) in _NOT_KNOWN


def _says_nothing(words: str) -> bool:
    """Beside yes and no: a doubt, one letter, or what Python writes where nothing stands."""
    return words in _UNSURE or words == "none" or len(words) == 1


def doubtful(values: Collection[str]) -> list[str]:
    """Classes beside 0 and 1 or yes and no that may be honest ones, or stand for something that is not known."""
    answers = [value for value in values if words_of(value) in _YES_NO]
    if len(answers) == 2 and negative_first(*answers)[1]:
        return [value for value in values if value not in answers]
    if not {"0", "1"} <= set(values) or set(values) == {str(number) for number in range(len(values))}:
        return []
    return [value for value in values if value not in ("0", "1")] if len(values) == _THREE else []


def _codes(numbers: Mapping[str, float]) -> set[str]:
    """Numbers that cannot be the next grade: below zero, or a registry's 9, 99, 888 behind a gap."""
    whole = {text: int(value) for text, value in numbers.items() if value.is_integer()}
    inside = set(whole.values())
    if {-value for value in inside} == inside and max(inside, default=0) > _LARGEST_CHANGE:
        return set()
    likely = {value for value in inside if value < 0 or _REGISTRY.fullmatch(str(value))}
    if {0, 1} <= inside and not inside & set(range(2, _FAR)):
        likely |= {value for value in inside if value >= _FAR}
    grades = inside - likely
    if not grades or grades != set(range(min(grades), max(grades) + 1)):
        return set()
    codes: set[int] = set()
    if min(grades) > 1:  # 2 to 5 of a score: what is far from them, or below zero, and no other
        likely = {value for value in likely if value < 0 or value > _FAR * max(grades)}
        return {text for text, value in whole.items() if value in likely}
    for value in sorted(inside - grades):
        behind_gap = value - 1 not in inside or value - 1 in codes
        if value < 0 or behind_gap:
            codes.add(value)
    return {text for text, value in whole.items() if value in codes}
