"""Trace context: carried always, spans only where somebody wants them."""

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from libs.common.errors import ConfigurationError
from libs.common.observability import tracing
from libs.common.observability.tracing import start_span, validate_traceparent

PARENT = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
OTHER = b"00-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-bbbbbbbbbbbbbbbb-01"


@pytest.fixture
def exporter(monkeypatch):
    monkeypatch.setattr(tracing._Tracer, "made", None)
    found = InMemorySpanExporter()
    tracing.configure_tracing("test", "", found)
    yield found


@pytest.mark.parametrize(
    "given",
    [None, b"", b"junk", PARENT + b"0", PARENT.upper(), b"01" + PARENT[2:], b"00-" + b"0" * 32 + PARENT[35:],
     PARENT[:36] + b"0" * 16 + b"-01", PARENT.replace(b"-", b"_")],
)  # fmt: skip
def test_what_is_no_traceparent_is_left_out(given):
    assert validate_traceparent(given) is None


def test_without_spans_the_callers_context_is_passed_on():
    assert tracing._Tracer.made is None
    assert validate_traceparent(PARENT) == PARENT
    with start_span("x", "PRODUCER", PARENT) as passed_on:
        assert passed_on == PARENT
    with start_span("x", "PRODUCER", None) as passed_on:
        assert passed_on is None


def test_with_spans_each_is_a_child_of_what_came_and_the_parent_of_what_goes(exporter):
    with start_span("publish", "PRODUCER", PARENT, {"messaging.system": "kafka"}) as passed_on:
        pass
    with start_span("process", "CONSUMER", None, links=[passed_on, OTHER, b"junk"]):
        pass
    with start_span("deliver", "CLIENT", passed_on) as last:
        pass
    publish, process, deliver = exporter.get_finished_spans()
    assert (
        f"{publish.context.trace_id:032x}"
        == f"{deliver.context.trace_id:032x}"
        == PARENT[3:35].decode()
    )
    assert f"{publish.parent.span_id:016x}" == PARENT[36:52].decode()
    assert deliver.parent.span_id == publish.context.span_id
    assert [f"{link.context.trace_id:032x}" for link in process.links] == [
        PARENT[3:35].decode(),
        OTHER[3:35].decode(),
    ]
    assert process.parent is None
    assert publish.attributes["messaging.system"] == "kafka"
    assert validate_traceparent(last) == last


def test_an_endpoint_without_the_extra_is_said_with_its_cure(monkeypatch):
    monkeypatch.setattr(tracing._Tracer, "made", None)
    with pytest.raises(ConfigurationError, match=r"perigee\[otel\]"):
        tracing.configure_tracing("test", "http://127.0.0.1:4318")
