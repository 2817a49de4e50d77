"""Webhooks of other systems: the events of a document, and the adapter's calls of each event."""

import traceback
from typing import Any

from libs.common.errors import InvalidMessage
from libs.common.observability import logs
from services.ingest.adapters import Adapter
from services.ingest.adapters.registry import ADAPTERS
from services.ingest.domain import json_body
from services.ingest.domain.message_batch import MAX_MESSAGES
from services.ingest.domain.source import Source
from services.ingest.domain.tracking_call import TrackingCall, call_from_object

log = logs.get_logger(__name__)


def split_adapter_events(name: str, source: Source, document: Any) -> list[bytes]:
    """Return the events of a document for a source's adapter, as JSON.

    Raises InvalidMessage, BodyTooLarge.
    """
    events = _get_adapter(name).split_events(document, source.adapter_settings)
    if len(events) > MAX_MESSAGES:
        raise json_body.BodyTooLarge(
            "too_many", f"{len(events):,} events at once: at most {MAX_MESSAGES:,}"
        )
    encoded_events = [json_body.encode_json(event) for event in events]
    json_body.check_dead_letter_sizes(encoded_events)
    return encoded_events


def _get_adapter(name: str) -> Adapter:
    adapter = ADAPTERS.get(name)
    if adapter is None:
        raise InvalidMessage("no_adapter", f"there is no adapter {name} any more")
    return adapter


def convert_adapter_event(name: str, source: Source, event: bytes) -> list[TrackingCall]:
    """Return an adapter's calls of an event, cleaned like tracking calls. Raises InvalidMessage."""
    adapter = _get_adapter(name)
    document = json_body.decode_clean(event)
    try:
        calls = adapter.to_calls(document, source.adapter_settings)
        return [call_from_object(call) for call in calls]
    except InvalidMessage:
        raise
    except Exception as error:  # noqa: BLE001
        log.error("adapter_failed", adapter=name, error=type(error).__name__, at=_raised_at(error))  # noqa: TRY400
        raise InvalidMessage(
            "adapter_failed", f"{name}: {type(error).__name__}: kept for a repaired adapter"
        ) from None


def _raised_at(error: BaseException) -> str:
    """Return file and line of an error; its message may contain personal data, not for logs."""
    entry = traceback.extract_tb(error.__traceback__)[-1]
    return f"{entry.filename.rpartition('/')[2]}:{entry.lineno}"
