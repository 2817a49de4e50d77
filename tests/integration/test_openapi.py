"""Every admin route of every service against its own OpenAPI document: no answer but those it names, no 5xx but back-pressure's.

The long form (`make test-faults` sets it) asks more often.
"""

import os

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

EXAMPLES = 150 if os.environ.get("PERIGEE_FAULTS") == "long" else 12
CHECKS = [not_a_server_error, content_type_conformance, response_schema_conformance, status_code_conformance]
STREAMS = {"/admin/v1/live"}  # it has no end
pytestmark = pytest.mark.timeout(600 if EXAMPLES > 100 else 200)


def test_every_route_answers_as_its_document_says(instance):
    assert ask_all(instance, "INGEST_URL") >= 8
    assert ask_all(instance, "SCORING_URL") >= 8
    assert ask_all(instance, "ORCHESTRATOR_URL") >= 8


def ask_all(instance, service):
    headers = {"Authorization": f"Bearer {instance.environment['PERIGEE_ADMIN_KEY']}"}
    schema = schemathesis.openapi.from_url(f"{instance.environment[service]}/openapi.json")
    seen = 0
    for found in schema.get_all_operations():
        operation = found.ok()
        if operation.path in STREAMS:
            continue
        seen += 1

        @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(operation.as_strategy())
        def ask(case):
            answer = case.call(headers=headers)
            case.validate_response(answer, checks=CHECKS)

        ask()
    return seen
