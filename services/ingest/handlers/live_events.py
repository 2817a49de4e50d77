"""What the door takes and refuses, as it happens."""

from collections.abc import AsyncIterator

import msgspec

from libs.common.errors import InvalidMessage
from libs.common.kafka import topic_reader
from libs.common.kafka.record import Record
from libs.common.messages import Touchpoint, decode_value
from services.ingest.domain.dead_letter import TOPICS, parse_dead_letter


class LiveEvent(msgspec.Struct, frozen=True):
    """One message as it came. `outcome` is accepted, bot, test, historical or refused; `reason` says why refused."""

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
    """Yield what comes from now on, for ever. Raises Unavailable when Kafka does not answer."""
    async for record in topic_reader.follow_topics(
        bootstrap_servers, [Touchpoint.TOPIC, TOPICS["ingest"]]
    ):
        yield _refused(record) if record.topic == TOPICS["ingest"] else _taken(record)


def _taken(record: Record) -> LiveEvent:
    try:
        t = decode_value(Touchpoint, record.value)
    except InvalidMessage as error:
        return LiveEvent(
            record.timestamp, "?", "refused", reason=f"not by the door: {error.detail}"
        )
    outcome = (
        "test"
        if t.mode == "test"
        else "bot"
        if t.is_bot
        else "historical"
        if t.mode == "historical"
        else "accepted"
    )
    who = t.user_id or t.anonymous_id or next(iter(t.external_ids.values()), "")
    return LiveEvent(t.received_at, t.source, outcome, t.type, t.name, who, t.channel)


def _refused(record: Record) -> LiveEvent:
    found = parse_dead_letter(
        (record.topic, record.partition, record.offset),
        record.key,
        record.value,
        record.headers,
        record.timestamp,
        "",
    )
    why = f"{found.reason}: {found.error}" if found.error else found.reason
    return LiveEvent(
        found.refused_at, found.where.rpartition("/")[2], "refused", reason=why, number=found.number
    )
