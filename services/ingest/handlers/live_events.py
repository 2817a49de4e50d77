"""Stream of accepted and refused messages."""

from collections.abc import AsyncIterator

import msgspec

from libs.common.errors import InvalidMessage
from libs.common.kafka import topic_reader
from libs.common.kafka.record import Record
from libs.common.messages import Touchpoint, decode_value
from services.ingest.domain.dead_letter import TOPICS, parse_dead_letter


class LiveEvent(msgspec.Struct, frozen=True):
    """One incoming message; `at` is in microseconds UTC, `who` an id of the contact.

    `outcome` is accepted, bot, test, historical or refused; `reason` and `number` are those of the
    dead letter of a refused message.
    """

    at: int
    source: str
    outcome: str
    type: str = ""
    name: str = ""
    who: str = ""
    channel: str = ""
    reason: str = ""
    number: str = ""


async def stream_live_events(bootstrap_servers: str) -> AsyncIterator[LiveEvent]:
    """Yield messages from now on, for ever. Raises Unavailable when Kafka does not answer."""
    async for record in topic_reader.follow_topics(
        bootstrap_servers, [Touchpoint.TOPIC, TOPICS["ingest"]]
    ):
        is_dead_letter = record.topic == TOPICS["ingest"]
        yield _refused_event(record) if is_dead_letter else _accepted_event(record)


def _accepted_event(record: Record) -> LiveEvent:
    try:
        touchpoint = decode_value(Touchpoint, record.value)
    except InvalidMessage as error:
        return LiveEvent(
            record.timestamp, "?", "refused", reason=f"not written by ingest: {error.detail}"
        )
    outcome = (
        "test"
        if touchpoint.mode == "test"
        else "bot"
        if touchpoint.is_bot
        else "historical"
        if touchpoint.mode == "historical"
        else "accepted"
    )
    external_id = next(iter(touchpoint.external_ids.values()), "")
    return LiveEvent(
        touchpoint.received_at,
        touchpoint.source,
        outcome,
        touchpoint.type,
        touchpoint.name,
        touchpoint.user_id or touchpoint.anonymous_id or external_id,
        touchpoint.channel,
    )


def _refused_event(record: Record) -> LiveEvent:
    letter = parse_dead_letter(
        (record.topic, record.partition, record.offset),
        record.key,
        record.value,
        record.headers,
        record.timestamp,
        "",
    )
    reason = f"{letter.reason}: {letter.error}" if letter.error else letter.reason
    source = letter.where.rpartition("/")[2]
    return LiveEvent(letter.refused_at, source, "refused", reason=reason, number=letter.number)
