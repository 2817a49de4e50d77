"""Trace context is always propagated; spans exist only with a configured exporter."""

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
    span_exporter = InMemorySpanExporter()
    tracing.configure_tracing("test", "", span_exporter)
    yield span_exporter


@pytest.mark.parametrize(
    "header",
    [
        None,
        b"",
        b"junk",
        PARENT + b"0",
        PARENT.upper(),
        b"01" + PARENT[2:],
        b"00-" + b"0" * 32 + PARENT[35:],
        PARENT[:36] + b"0" * 16 + b"-01",
        PARENT.replace(b"-", b"_"),
    ],
)
def test_invalid_traceparent_is_ignored(header):
    assert validate_traceparent(header) is None


def test_context_is_propagated_without_spans():
    assert tracing._Tracer.made is None
    assert validate_traceparent(PARENT) == PARENT
    with start_span("x", "PRODUCER", PARENT) as propagated:
        assert propagated == PARENT

    with start_span("x", "PRODUCER", None) as propagated:
        assert propagated is None


def test_spans_continue_and_propagate_the_trace(exporter):
    with start_span("publish", "PRODUCER", PARENT, {"messaging.system": "kafka"}) as propagated:
        pass
    with start_span("process", "CONSUMER", None, links=[propagated, OTHER, b"junk"]):
        pass
    with start_span("deliver", "CLIENT", propagated) as delivered:
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
    assert validate_traceparent(delivered) == delivered


def test_endpoint_without_otel_extra_is_an_error(monkeypatch):
    monkeypatch.setattr(tracing._Tracer, "made", None)

    with pytest.raises(ConfigurationError, match=r"perigee\[otel\]"):
        tracing.configure_tracing("test", "http://127.0.0.1:4318")
