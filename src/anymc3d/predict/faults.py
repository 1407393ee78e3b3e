"""What a case that failed while it was predicted says: with advice where memory ended."""

from __future__ import annotations

from anymc3d.cost.device import ran_out_of_memory
from anymc3d.data.case import Case
from anymc3d.data.case_faults import fault_of


def predict_fault(error: Exception, case: Case) -> str:
    """As :func:`anymc3d.data.case_faults.fault_of`, of work that was tried in smaller and smaller chunks."""
    return fault_of(error, case, "; more memory is needed, also with --chunk-size 1" * ran_out_of_memory(error))


def explain_fault(error: Exception, case: Case) -> str:
    """The same of work that cannot be done in chunks."""
    return fault_of(error, case, "; more memory is needed" * ran_out_of_memory(error))
