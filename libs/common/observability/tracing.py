"""W3C trace context from a tracking request to the subscribers, and OpenTelemetry spans.

A `traceparent` is always propagated: from the request's header to the header of the touchpoint's
record, of the stage changes and signals that it causes, and of their webhooks. Spans are recorded
only if the extra `otel` is installed and OTEL_EXPORTER_OTLP_ENDPOINT is set; OpenTelemetry reads
its other OTEL_ variables itself.
Sources: W3C Trace Context 1.0; OpenTelemetry's semantic conventions for messaging.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib import import_module
from typing import Any, Literal

from libs.common.errors import ConfigurationError

_VALID = re.compile(rb"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
Kind = Literal["SERVER", "CLIENT", "PRODUCER", "CONSUMER", "INTERNAL"]
_MAX_LINKS = 100
_NO_ATTRIBUTES: Mapping[str, Any] = {}


class _Tracer:
    """The process's tracer; None until `configure_tracing` has an endpoint."""

    made: Any = None


def validate_traceparent(value: bytes | None) -> bytes | None:
    """Return the value if it is a `traceparent` of version 00, else None: it is then ignored."""
    return value if value is not None and _VALID.fullmatch(value) else None


def configure_tracing(service: str, endpoint: str, exporter: Any = None) -> None:
    """Record spans from now on, if there is an endpoint.

    Raises ConfigurationError when the extra `otel` is not installed.
    """
    if not endpoint and exporter is None:
        return
    try:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor

        provider = TracerProvider(resource=Resource.create({"service.name": f"perigee-{service}"}))
        if exporter is None:
            otlp: Any = import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
            provider.add_span_processor(BatchSpanProcessor(otlp.OTLPSpanExporter()))
        else:
            provider.add_span_processor(SimpleSpanProcessor(exporter))
    except ImportError as error:
        raise ConfigurationError(
            f"OTEL_EXPORTER_OTLP_ENDPOINT is set, but {error.name} is not installed: "
            "pip install 'perigee[otel]', or build the image with --build-arg OTEL=1"
        ) from None
    _Tracer.made = provider.get_tracer("perigee")


def start_span(
    name: str,
    kind: Kind,
    parent: bytes | None,
    attributes: Mapping[str, Any] = _NO_ATTRIBUTES,
    links: Iterable[bytes] = (),
) -> AbstractContextManager[bytes | None]:
    """Run the block in a span and yield its `traceparent`; without spans, that of the parent."""
    return (
        nullcontext(parent)
        if _Tracer.made is None
        else _span(name, kind, parent, attributes, links)
    )


@contextmanager
def _span(
    name: str,
    kind: Kind,
    parent: bytes | None,
    attributes: Mapping[str, Any],
    links: Iterable[bytes],
) -> Iterator[bytes | None]:
    from opentelemetry.trace import Link, SpanKind, format_span_id, format_trace_id

    contexts = (_span_context(link) for link in [*links][:_MAX_LINKS])
    span_links = [Link(context) for context in contexts if context is not None]
    with _Tracer.made.start_as_current_span(
        name,
        context=_parent_context(parent),
        kind=SpanKind[kind],
        links=span_links,
        attributes={**attributes},
    ) as span:
        own = span.get_span_context()
        flags = f"{int(own.trace_flags):02x}"
        yield f"00-{format_trace_id(own.trace_id)}-{format_span_id(own.span_id)}-{flags}".encode()


def _parent_context(traceparent: bytes | None) -> Any:
    from opentelemetry.context import Context
    from opentelemetry.trace import NonRecordingSpan, set_span_in_context

    parent = _span_context(traceparent)
    return Context() if parent is None else set_span_in_context(NonRecordingSpan(parent), Context())


def _span_context(traceparent: bytes | None) -> Any:
    from opentelemetry.trace import SpanContext, TraceFlags

    if validate_traceparent(traceparent) is None or traceparent is None:
        return None
    _, trace_id, span_id, flags = traceparent.decode().split("-")
    return SpanContext(
        int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16))
    )
