"""Every admin route against its OpenAPI document: only documented answers, no 5xx but 503.

The long form (`make test-faults` sets it) asks more often.
"""

import base64

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.support.progress import LONG

EXAMPLES = 150 if LONG else 12
CHECKS = [
    not_a_server_error,
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
]
STREAMS = {"/admin/v1/live"}  # endless
pytestmark = pytest.mark.timeout(600 if EXAMPLES > 100 else 200)


def test_admin_routes_match_their_openapi_document(instance):
    assert check_routes(instance, "INGEST_URL") >= 8
    assert check_routes(instance, "SCORING_URL") >= 8
    assert check_routes(instance, "ORCHESTRATOR_URL") >= 8


def test_tracking_api_matches_its_openapi_document(instance):
    key = base64.b64encode(f"{instance.environment['WRITE_KEY']}:".encode()).decode()

    assert check_routes(instance, "INGEST_URL", "/v1/openapi.json", f"Basic {key}") == 10
    assert check_routes(instance, "INGEST_URL", "/v1/openapi.json", "Basic d3Jvbmc6") == 10


def check_routes(instance, service, document="/openapi.json", authorization=None):
    headers = {
        "Authorization": authorization or f"Bearer {instance.environment['PERIGEE_ADMIN_KEY']}"
    }
    schema = schemathesis.openapi.from_url(f"{instance.environment[service]}{document}")
    checked = 0
    for result in schema.get_all_operations():
        operation = result.ok()
        if operation.path in STREAMS:
            continue
        checked += 1

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(operation.as_strategy())
        def check(case):
            response = case.call(headers=headers)
            case.validate_response(response, checks=CHECKS)

        check()
    return checked
