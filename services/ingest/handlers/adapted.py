"""What another system sends, in its own shape: the events of a document, and the calls that its adapter makes of each."""

import traceback
from typing import Any

from libs.common.errors import InvalidMessage
from libs.common.observability import logs
from services.ingest.adapters import Adapter
from services.ingest.adapters.known import ADAPTERS
from services.ingest.domain import body
from services.ingest.domain.batch import MAX_MESSAGES
from services.ingest.domain.call import Call, call_of
from services.ingest.domain.source import Source

log = logs.get_logger(__name__)


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
