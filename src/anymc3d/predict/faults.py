"""What a case that failed says: one line in its row, without a path."""

from __future__ import annotations

from anymc3d.cost.device import ran_out_of_memory
from anymc3d.data.case import Case
from anymc3d.errors import AnyMC3DError

CASE_FAULTS = (AnyMC3DError, MemoryError, RuntimeError)
"""What fails one case and not the others: its scans, memory, or torch refusing a computation."""


def fault_of(error: BaseException, case: Case, *, in_chunks: bool = True) -> str:
    """What the outputs say of a case that failed with one of ``CASE_FAULTS``: one line without a path.

    ``in_chunks``: smaller chunks were tried, or would have been.
    """
    if isinstance(error, AnyMC3DError):
        return _without_paths(error, case)
    advice = "; more memory is needed" + ", also with --chunk-size 1" * in_chunks if ran_out_of_memory(error) else ""
    return f"cannot be used ({type(error).__name__}: {_without_paths(error, case)[:300]}){advice}"


def _without_paths(error: BaseException, case: Case) -> str:
    """One line, a scan named by its manifest column: a path or file name may tell who the patient is."""
    text = " ".join(str(error).split())
    for column, reference in (*case.images.items(), *case.masks.items()):
        text = text.replace(reference, column)
    return text
