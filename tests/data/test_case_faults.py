"""The boundary about one case: one line in its row, whatever went wrong, and nothing that names a person's files."""

import logging

import pytest

from anymc3d.data.case import Case
from anymc3d.data.case_faults import CaseFault, attempt
from anymc3d.errors import TRACEBACKS, InterruptedRunError, OutputError, PluginError, ScanError

CASE = Case(
    *("a", "a", {"image": "/data/Doe^Jane/scan_of_jane.nii.gz"}, {"mask": "/data/Doe^Jane/m.nii.gz"}, {}),
    *(None, None, None, None, 2),
)
UNFORESEEN = [
    ValueError("array is too big"),
    TypeError("pad_width must be of integral type"),
    KeyError("distinct"),
    ZeroDivisionError(),
    OSError(5, "Input/output error", "/data/Doe^Jane/scan_of_jane.nii.gz"),
    MemoryError("Unable to allocate 8.88 GiB"),
    RecursionError(),
    OverflowError("int too large to convert to float"),
    AssertionError(),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    RuntimeError("in /data/Doe^Jane/scan_of_jane.nii.gz and\n  scan_of_jane.nii.gz: no"),
    NotImplementedError("float8"),
    StopIteration(),
    Exception(),
]


def failing(error):
    def work():
        raise error

    return work


@pytest.mark.parametrize("error", UNFORESEEN, ids=lambda error: type(error).__name__)
def test_D1_every_exception_of_a_case_is_its_own_fault_in_one_line(error):
    found = attempt(failing(error), CASE)
    assert isinstance(found, CaseFault)
    assert type(error).__name__ in found.message and "\n" not in found.message
    assert "Jane" not in found.message and "jane" not in found.message


def test_what_was_foreseen_keeps_its_words():
    assert attempt(failing(ScanError("/data/x: it is cut", what="it is cut")), CASE).message == "it is cut [E-scan]"
    assert attempt(failing(PluginError("a logit is not finite")), CASE).message == "a logit is not finite [E-plugin]"
    assert attempt(lambda: 7, CASE) == 7


@pytest.mark.parametrize(
    "error", [OutputError("full"), InterruptedRunError("stop"), KeyboardInterrupt(), SystemExit(3), GeneratorExit()]
)
def test_what_is_no_fault_of_the_case_passes(error):
    with pytest.raises(type(error)):
        attempt(failing(error), CASE)


def test_the_traceback_is_there_for_who_asks_and_names_no_file_of_the_case(caplog):
    with caplog.at_level(logging.DEBUG, logger="anymc3d"):
        attempt(failing(UNFORESEEN[10]), CASE)
    assert not caplog.records
    with caplog.at_level(TRACEBACKS, logger="anymc3d"):
        attempt(failing(UNFORESEEN[10]), CASE)
        attempt(failing(ScanError("/data/Doe^Jane/x: cut", what="cut")), CASE)
    assert caplog.text.count("case 'a'") == 1, "what was foreseen needs no traceback"
    assert 'File "' in caplog.text and "in work" in caplog.text and "jane" not in caplog.text.lower()
    assert all("\n" not in record.getMessage() for record in caplog.records), "each line is a line of the log"
