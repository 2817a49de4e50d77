"""What another system sends, in its own shape: the events of a document, and the calls that its adapter makes of each."""

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
    """Return the events of a document that came for an adapter of a source, as JSON. Raises InvalidMessage, BodyTooLarge."""
    found = _adapter(name).split_events(document, source.adapter_settings)
    if len(found) > MAX_MESSAGES:
        raise json_body.BodyTooLarge(
            "too_many", f"{len(found):,} events at once: at most {MAX_MESSAGES:,}"
        )
    events = [json_body.encode_json(event) for event in found]
    json_body.check_dead_letter_sizes(events)
    return events


def _adapter(name: str) -> Adapter:
    adapter = ADAPTERS.get(name)
    if adapter is None:
        raise InvalidMessage("no_adapter", f"there is no adapter {name} any more")
    return adapter


def convert_adapter_event(name: str, source: Source, event: bytes) -> list[TrackingCall]:
    """Return the calls that an adapter makes of an event of a source, cleaned as the door cleans. Raises InvalidMessage."""
    adapter = _adapter(name)
    found = json_body.decode_clean(event)
    try:
        return [call_from_object(call) for call in adapter.to_calls(found, source.adapter_settings)]
    except InvalidMessage:
        raise
    except Exception as error:  # noqa: BLE001
        log.error("adapter_failed", adapter=name, error=type(error).__name__, at=_place(error))  # noqa: TRY400
        raise InvalidMessage(
            "adapter_failed", f"{name}: {type(error).__name__}: kept for a repaired adapter"
        ) from None


def _place(error: BaseException) -> str:
    """Return where it was raised; its message may hold data, and stays out of the logs."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{frame.filename.rpartition('/')[2]}:{frame.lineno}"
