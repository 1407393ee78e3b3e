"""Codes of findings, which a site may give for the labels of its plugins, for structured reports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from anymc3d.settings.limits import Form, Length
from anymc3d.settings.small_files import read_settings

_Value = Annotated[str, Form(r"[A-Za-z0-9_.:/^-]{1,16}", "1 to 16 letters and digits of a code")]
_Scheme = Annotated[str, Form(r"[A-Za-z0-9_.-]{1,16}", "a coding scheme such as SCT, RADLEX or LN")]
_Meaning = Annotated[str, Form(r"[^\\\x00-\x1f]{1,64}", "1 to 64 letters in one line, without a backslash")]


@dataclass(frozen=True, order=True, kw_only=True)
class FindingCode:
    """A coded concept (DICOM PS3.3 8): its value, the scheme it is of, and what it means."""

    value: _Value
    scheme: _Scheme
    meaning: _Meaning


Codes = Annotated[Mapping[str, FindingCode], Length(1000)]
"""Label -> its code."""


@dataclass(frozen=True, kw_only=True)
class CodesFile:
    """A file of codes: ``format: 1``, then ``findings``."""

    format: Literal[1]
    findings: Codes = field(default_factory=dict)


def read_codes(path: Path) -> Mapping[str, FindingCode]:
    """Label -> code, from a YAML file.

    Raises:
        UsageError: with every fault of the file.
    """
    codes_file: CodesFile = read_settings(CodesFile, path, "--sr-codes")
    return codes_file.findings
