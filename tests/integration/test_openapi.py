"""Every admin route of every service against its own OpenAPI document: no answer but those it names, no 5xx but back-pressure's.

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
STREAMS = {"/admin/v1/live"}  # it has no end
pytestmark = pytest.mark.timeout(600 if EXAMPLES > 100 else 200)


def test_every_route_answers_as_its_document_says(instance):
    assert ask_all(instance, "INGEST_URL") >= 8
    assert ask_all(instance, "SCORING_URL") >= 8
    assert ask_all(instance, "ORCHESTRATOR_URL") >= 8


def test_the_tracking_api_answers_as_its_document_says(instance):
    key = base64.b64encode(f"{instance.environment['WRITE_KEY']}:".encode()).decode()
    assert ask_all(instance, "INGEST_URL", "/v1/openapi.json", f"Basic {key}") == 10
    assert ask_all(instance, "INGEST_URL", "/v1/openapi.json", "Basic d3Jvbmc6") == 10


def ask_all(instance, service, document="/openapi.json", authorization=None):
    headers = {
        "Authorization": authorization or f"Bearer {instance.environment['PERIGEE_ADMIN_KEY']}"
    }
    schema = schemathesis.openapi.from_url(f"{instance.environment[service]}{document}")
    seen = 0
    for found in schema.get_all_operations():
        operation = found.ok()
        if operation.path in STREAMS:
            continue
        seen += 1

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(operation.as_strategy())
        def ask(case):
            answer = case.call(headers=headers)
            case.validate_response(answer, checks=CHECKS)

        ask()
    return seen
