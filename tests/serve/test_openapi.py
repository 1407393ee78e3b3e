"""The interface does what its description says, whatever a client sends: no answer of 500, none undescribed."""

import json
import warnings

import pytest
from hypothesis import HealthCheck, Phase, given, settings

schemathesis = pytest.importorskip("schemathesis", reason="needs schemathesis, of the extra 'test'")

EXAMPLES = 4
"""Per operation."""
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
)


def test_E9_E11_no_request_breaks_the_interface_or_surprises_a_client(url, client):
    from schemathesis import checks

    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    wanted = [getattr(checks, name) for name in CHECKS]
    text = json.dumps(schema.raw_schema).lower()
    assert '"format": "uri"' not in text and '"url"' not in text  # nothing that could name an address to connect to
    tried = []
    for found in schema.get_all_operations():
        operation = found.ok()

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
            database=None,
        )
        @given(case=operation.as_strategy())
        def check(case):
            if "wait" in (case.query or {}):
                case.query["wait"] = 0
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                case.call_and_validate(timeout=30, checks=wanted)

        check()
        tried.append((operation.method.upper(), operation.path))
    assert ("POST", "/v1/jobs") in tried and ("GET", "/v1/jobs/{job_id}") in tried and len(tried) >= 12
    assert client.get("/readyz").status_code == 200
