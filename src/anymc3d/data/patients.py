"""Who the patient is: which columns may say it, and ids of one patient in two spellings."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

from anymc3d.data.case import Case
from anymc3d.files.spelling import bare, one_spelling, spellings

_PERSONS = (
    "patient|patients|pat|subject|subjects|subj|sbj|sub|participant|participants|proband|probands|volunteer|volunteers"
    "|donor|donors|person|persons|individual|individuals|animal|patienten|patientin|patientinnen|paciente|pacientes"
    "|paziente|pazienti|patiente|sujet|sujets|sujeto|sujeito|soggetto|participante|partecipante|deelnemer|pacjent|pacjenta"
    "|pasient|pasienter|potilas|pacient|pacienti|pacientas|hasta|deltaker|deltager|beteg|versuchsperson|forsøksperson"
    "|ασθενής|ασθενήσ|מטופל|מטופלת|חולה|المريض|مريض|被検者|受診者|患儿"
    "|пациент|участник|испытуемый|患者|病人|受试者|被试|被験者|환자"
)
_BESIDE = (
    "id|ids|no|nr|num|number|numbers|nummer|numero|número|numéro|name|names|key|code|kode|uid|uuid|guid|identifier|hash|index"
    "|idx|pseudonym|alias|barcode|bcr|anon|anonym|anonymized|anonymised|anonymous|deid|deidentified|case|study|trial"
    "|research|orig|original|source|unique|global|internal|external|the|of|identifiant|identificador|identificativo|numer|číslo|código|codigo|codice|nom|nome|nombre|de|del|della|du|do|da|le|la"
    "|azonosító|nº|n|αριθμός|αριθμόσ|מספר|رقم|идентификатор|номер|编号|番号|번호|号"
)
_NAMES_PATIENT = re.compile(
    rf"(?:{_BESIDE})*(?:{_PERSONS})(?:{_BESIDE})*(?:x|y|\d{{1,2}})?|(?:{_BESIDE})*pt(?:{_BESIDE})+"
)
_OTHER_NAMES = (
    "mrn mrnumber medicalrecord medicalrecordnumber medicalrecordno medrecno ptid rid pid eid pnr cpr ssn empi usubjid"
    " usubjectid hospitalnumber nhsnumber nhsno chinumber healthnumber personnummer krankenaktennummer naccid oasisid"
    " submitterid casesubmitterid chartnumber chartno chartid urnumber unitrecordnumber mrno uhid ipp cpf kennitala"
    " henkilötunnus persnr prontuário prontuario pseudonym pseudonymid pseudoid anonid anonymizedid anonymisedid"
    " surname lastname familyname nachname 病历号 病案号 住院号 门诊号 登记号 症例番号 カルテ番号 등록번호 병록번호"
)
"""Column names of hospitals and of well-known studies."""
_LONGEST = 60
_WORDS = re.compile(r"[^\W\d_]+")
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_PERSON = re.compile(_PERSONS)
_ID_WORD = re.compile("ids?|no|nr|num|number|nummer|name|key|code|uid|uuid|identifier|barcode")


def names_patient(column: str) -> bool:
    """Whether a header may name the patient, whatever its letter case, blanks and signs between its words.

    ``patient_age`` does not; ``Patient ID``, ``MRN``, ``case_patient`` and ``BraTS_2020_subject_ID`` do.
    """
    header = bare(column)
    if len(header) > _LONGEST:
        return False
    if header in _OTHER_NAMES.split() or _NAMES_PATIENT.fullmatch(header):
        return True
    words = [word.casefold() for word in _WORDS.findall(_HUMP.sub("_", column))]
    return len(words) > 2 and bool(_PERSON.fullmatch(words[-2]) and _ID_WORD.fullmatch(words[-1]))


def patient_columns(columns: Iterable[str]) -> list[str]:
    """The columns that may name the patient, beside the reserved ``patient``."""
    return [column for column in columns if column != "patient" and names_patient(column)]


def two_spellings(cases: Sequence[Case]) -> list[list[Case]]:
    """The cases of each patient whose id stands there in several spellings, such as ``101`` and ``P-101``."""
    groups = {patient: index for index, group in enumerate(spellings(c.patient for c in cases)) for patient in group}
    members: dict[int, list[Case]] = defaultdict(list)
    for case in cases:
        if case.patient in groups:
            members[groups[case.patient]].append(case)
    return list(members.values())


def are_named(cases: Sequence[Case]) -> bool:
    """Whether the table says who the patients are; else each case is its own, and two alike names are two scans."""
    return any(case.patient != case.id for case in cases)


def patients_of(cases: Sequence[Case]) -> list[str]:
    """The patient of each case, for keeping a patient in one part: of ids that look like one, the first spelling."""
    patients = [case.patient for case in cases]
    return one_spelling(patients) if are_named(cases) else patients


def patients_in_two_splits(cases: Sequence[Case]) -> list[str]:
    """One line per patient whose cases stand in more than one split: such a split measures memory, not skill.

    Ids that differ only in spelling are one patient.
    """
    by_id: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        by_id[case.patient].append(case)
    groups = [*by_id.values(), *(two_spellings(cases) if are_named(cases) else ())]
    return [problem for group in groups if (problem := _in_two_splits(group)) is not None]


def _in_two_splits(group: Sequence[Case]) -> str | None:
    rows: dict[str, list[int]] = defaultdict(list)
    for case in group:
        if case.split is not None:
            rows[case.split].append(case.row)
    if len(rows) < 2:
        return None
    ids = list(dict.fromkeys(case.patient for case in group))
    first = min(row for numbers in rows.values() for row in numbers)
    where = f"in {len(rows)} splits ({'; '.join(f'{split}: {_row_list(numbers)}' for split, numbers in rows.items())})"
    if len(ids) == 1:
        return f"row {first}: patient {ids[0]!r} is {where}; keep it in one"
    return (
        f"row {first}: patients {' and '.join(map(repr, ids[:4]))} look like one patient written {len(ids)} ways, "
        f"{where}; write it one way and keep it in one split, or give other patients other ids"
    )


def _row_list(numbers: Sequence[int]) -> str:
    shown = ", ".join(str(number) for number in numbers[:5])
    return f"rows {shown}" + (f" and {len(numbers) - 5} more" if len(numbers) > 5 else "")
