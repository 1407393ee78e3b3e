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
    if cases:
        count = "1 case" if len(cases) == 1 else f"{len(cases)} cases"
        warn(
            f"{count}: a store refused the credentials; renew them and give the same command again: what is finished "
            "stays, the rest is tried again"
        )
