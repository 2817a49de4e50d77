"""W3C trace context from the caller's request to what a subscriber gets, and spans of it with OpenTelemetry.

A `traceparent` is carried always: from the request's header into that of the touchpoint's record, of the stage changes and
signals that it causes, and of the webhooks that tell of them. Spans are made only where the extra `otel` is installed and
OTEL_EXPORTER_OTLP_ENDPOINT says where they go; OpenTelemetry reads its other OTEL_ variables itself.
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
_LINKS = 100
_NOTHING: Mapping[str, Any] = {}


class _Tracer:
    """Who makes spans; nobody, until `configure` finds where they go."""

    made: Any = None


def validate_traceparent(given: bytes | None) -> bytes | None:
    """Return a `traceparent` if it is one of version 00, else None: a wrong one starts nothing and stops nothing."""
    return given if given is not None and _VALID.fullmatch(given) else None


def configure_tracing(service: str, endpoint: str, exporter: Any = None) -> None:
    """Make spans from now on, if there is an endpoint. Raises ConfigurationError when the extra is not installed."""
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
            f"OTEL_EXPORTER_OTLP_ENDPOINT is set, but {error.name} is not installed: pip install 'perigee[otel]', "
            "or build the image with --build-arg OTEL=1"
        ) from None
    _Tracer.made = provider.get_tracer("perigee")


def start_span(
    name: str,
    kind: Kind,
    parent: bytes | None,
    about: Mapping[str, Any] = _NOTHING,
    links: Iterable[bytes] = (),
) -> AbstractContextManager[bytes | None]:
    """Run the block in a span and give it the `traceparent` to pass on; without spans that is the parent."""
    return nullcontext(parent) if _Tracer.made is None else _span(name, kind, parent, about, links)


@contextmanager
def _span(
    name: str, kind: Kind, parent: bytes | None, about: Mapping[str, Any], links: Iterable[bytes]
) -> Iterator[bytes | None]:
    from opentelemetry.trace import Link, SpanKind, format_span_id, format_trace_id

    linked = [
        Link(found) for found in (_context(link) for link in [*links][:_LINKS]) if found is not None
    ]
    with _Tracer.made.start_as_current_span(
        name, context=_parent(parent), kind=SpanKind[kind], links=linked, attributes={**about}
    ) as made:
        own = made.get_span_context()
        flags = f"{int(own.trace_flags):02x}"
        yield f"00-{format_trace_id(own.trace_id)}-{format_span_id(own.span_id)}-{flags}".encode()


def _parent(traceparent: bytes | None) -> Any:
    from opentelemetry.context import Context
    from opentelemetry.trace import NonRecordingSpan, set_span_in_context

    found = _context(traceparent)
    return Context() if found is None else set_span_in_context(NonRecordingSpan(found), Context())


def _context(traceparent: bytes | None) -> Any:
    from opentelemetry.trace import SpanContext, TraceFlags

    if validate_traceparent(traceparent) is None or traceparent is None:
        return None
    _, trace, own, flags = traceparent.decode().split("-")
    return SpanContext(
        int(trace, 16), int(own, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16))
    )
