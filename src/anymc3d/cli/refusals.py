"""What a summary says of cases whose store refused the credentials: one line, however many they are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from anymc3d.cli.say import warn
from anymc3d.errors import CredentialsError

_END = f"[{CredentialsError.code}]"


def warn_of_refusals(rows: Iterable[Mapping[str, Any]]) -> None:
    """Count the cases that failed so, and say what to do."""
    cases = {row["case"] for row in rows if row["status"] == "error" and row["message"].endswith(_END)}
    warn_of(len(cases), "case")


def warn_of(count: int, noun: str) -> None:
    """What to do about so many; nothing where there are none."""
    if count:
        warn(
            f"{count} {noun}{'s' * (count > 1)}: a store refused the credentials; renew them and give the same command "
            "again: what is finished stays, the rest is tried again"
        )
