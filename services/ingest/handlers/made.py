"""What is made of a request's messages: of each its calls, and of each call a touchpoint's message, with what it is known by."""

import traceback
from collections.abc import Callable
from typing import Any

from libs.common.errors import InvalidMessage
from libs.common.messages import Message
from libs.common.observability import logs
from services.ingest.adapters import Adapter
from services.ingest.adapters.known import ADAPTERS
from services.ingest.domain import body
from services.ingest.domain.batch import MAX_MESSAGES, Batch
from services.ingest.domain.call import Call, call_of, read_call
from services.ingest.domain.fast import Fast
from services.ingest.domain.frames import FrameStore
from services.ingest.domain.normalise import normalise
from services.ingest.domain.received import Received
from services.ingest.domain.recent import MessageId, place_of
from services.ingest.domain.source import Source
from services.ingest.handlers.telling import message_of

log = logs.get(__name__)
Made = tuple[MessageId, Message]
Reader = Callable[[bytes], list[Made]]
"""Reads one message. Raises InvalidMessage when it is to become a dead letter."""


def reader(received: Received, batch: Batch, frames: FrameStore | None) -> Reader:
    """Return what reads the calls of a request; those that are plain by their `frames`, where there are any."""

    def _read(raw: bytes) -> list[Made]:
        return [_made(read_call(raw), received)]

    shared = frames.of(received) if frames is not None and batch.is_text else None
    if shared is None:
        return _read
    take = Fast(received, shared).take

    def _read_fast(raw: bytes) -> list[Made]:
        found = take(raw)
        return _read(raw) if found is None else [found]

    return _read_fast


def adapted(name: str, received: Received) -> Reader:
    """Return what reads an adapter's events."""

    def _read(event: bytes) -> list[Made]:
        return [_made(call, received) for call in calls_of(name, received.source, event)]

    return _read


def _made(call: Call, received: Received) -> Made:
    touchpoint = normalise(call, received)
    place = place_of(touchpoint.workspace, touchpoint.source, touchpoint.message_id)
    return place, message_of(touchpoint, received.trace)


def events_of(name: str, source: Source, document: Any) -> list[bytes]:
    """Return the events of a document that came for an adapter of a source, as JSON. Raises InvalidMessage, TooLarge."""
    found = _adapter(name).events(document, source.adapter_settings)
    if len(found) > MAX_MESSAGES:
        raise body.TooLarge("too_many", f"{len(found):,} events at once: at most {MAX_MESSAGES:,}")
    events = [body.written(event) for event in found]
    body.check_kept(events)
    return events


def _adapter(name: str) -> Adapter:
    adapter = ADAPTERS.get(name)
    if adapter is None:
        raise InvalidMessage("no_adapter", f"there is no adapter {name} any more")
    return adapter


def calls_of(name: str, source: Source, event: bytes) -> list[Call]:
    """Return the calls that an adapter makes of an event of a source, cleaned as the door cleans. Raises InvalidMessage."""
    adapter = _adapter(name)
    found = body.read(event)
    try:
        return [call_of(call) for call in adapter.calls(found, source.adapter_settings)]
    except InvalidMessage:
        raise
    except Exception as error:  # noqa: BLE001 - a bug of ours costs nobody an event
        log.error("adapter_failed", adapter=name, error=type(error).__name__, at=_place(error))  # noqa: TRY400
        raise InvalidMessage("adapter_failed", f"{name}: {type(error).__name__}: kept for a repaired adapter") from None


def _place(error: BaseException) -> str:
    """Return where it was raised; its message may hold data, and stays out of the logs."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{frame.filename.rpartition('/')[2]}:{frame.lineno}"
