"""Repair of dead letters: list them, replay them after a fix, or drop them.

A replay is idempotent, because each dead letter keeps its message id: the `messageId` of its
touchpoint, or the id that ingest derived at the refusal, which is the key of the record.
"""

import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from libs.common.clock import Clock
from libs.common.db.connection import Session
from libs.common.db.unit_of_work import unit_of_work
from libs.common.errors import ConfigurationError, InvalidMessage, NotFound
from libs.common.ids import WorkspaceId
from libs.common.kafka import topic_reader
from libs.common.kafka.record import Record
from libs.common.messages import Message, Touchpoint, decode_value
from services.ingest.domain import json_body
from services.ingest.domain.dead_letter import (
    BROKER_ERROR,
    HEADER_PREFIX,
    TOPICS,
    DeadLetter,
    RecordPosition,
    parse_dead_letter,
    parse_error_headers,
    parse_number,
    parse_page_cursor,
    refused_at,
)
from services.ingest.domain.json_path import JsonPath, parse_path, set_at
from services.ingest.domain.normalise import normalise
from services.ingest.domain.request_context import NormalisationRules, RequestContext
from services.ingest.domain.source import Source, SourceKey
from services.ingest.domain.tracking_call import parse_call
from services.ingest.handlers.adapter_calls import convert_adapter_event, split_adapter_events
from services.ingest.handlers.ingestion import MessagePublisher
from services.ingest.handlers.outgoing_messages import parse_batch_defaults, touchpoint_message
from services.ingest.repository import dead_letter_marks, sources

PUBLISH_SECONDS = 30
Changes = Sequence[tuple[JsonPath, Any]]


class ReplayResult(msgspec.Struct, frozen=True):
    """Result of a replay; `refused` is {number: reason} of the letters refused again."""

    replayed: list[str]
    refused: dict[str, str]


class DeadLetterPage(msgspec.Struct, frozen=True):
    """Dead letters with truncated content; `all` counts the matches from this page on."""

    letters: list[DeadLetter]
    all: int


class DeadLetterService:
    """The dead letters of every service."""

    def __init__(
        self,
        bootstrap_servers: str,
        session: Session,
        publisher: MessagePublisher,
        clock: Clock,
        rules: NormalisationRules,
    ) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._session = session
        self._publisher = publisher
        self._clock = clock
        self._rules = rules

    async def list_page(
        self,
        service: str,
        matches: Callable[[DeadLetter], bool],
        *,
        marked: bool = False,
        limit: int = 100,
        after: str = "",
    ) -> DeadLetterPage:
        """Return a service's first dead letters that match, oldest first.

        Replayed and dropped letters are included with `marked` only. `after` is the cursor at the
        end of the previous page. Raises NotFound for an unknown service, ConfigurationError,
        Unavailable.
        """
        cursor = parse_page_cursor(after) if after else (0, "")
        topic = TOPICS.get(service)
        if topic is None:
            raise NotFound(f"no service {service!r}: {', '.join(TOPICS)}")
        async with self._session.acquire() as connection:
            marks = await dead_letter_marks.get_marks(connection, topic)
        letters: list[DeadLetter] = []
        count = 0
        async for record in topic_reader.read_to_end(self._bootstrap_servers, topic):
            letter = _letter_from_record(record, marks.get(_position(record), ""))
            if (marked or not letter.mark) and letter.sort_key > cursor and matches(letter):
                count += 1
                letters.append(letter.truncated())
                if len(letters) > 2 * limit:
                    letters = _oldest(letters, limit)
        return DeadLetterPage(_oldest(letters, limit), count)

    async def get(self, number: str) -> DeadLetter:
        """Return one dead letter. Raises ConfigurationError, NotFound, Unavailable."""
        record = (await self._get_records([number]))[number]
        async with self._session.acquire() as connection:
            marks = await dead_letter_marks.get_marks(connection, record.topic)
        return _letter_from_record(record, marks.get(_position(record), ""))

    async def replay(
        self,
        numbers: Sequence[str],
        author: str,
        note: str,
        repairs: Mapping[str, Any] | None = None,
    ) -> ReplayResult:
        """Try dead letters again.

        A refused call is normalised by the present rules; a refused record is published to its
        topic unchanged. `repairs` sets values in refused calls first: {path in the call: value}.
        Messages that are refused again stay dead letters. Raises ConfigurationError, NotFound,
        Unavailable.
        """
        changes = _parse_repairs(repairs or {})
        note = f"{note} [set {json.dumps(repairs)}]".strip() if repairs else note
        records = await self._get_records(numbers)
        async with self._session.acquire() as connection:
            sources_by_key = {
                SourceKey(source.workspace, source.name): source
                for source in await sources.list_sources(connection)
            }
        replays: dict[str, list[Message]] = {}
        refused: dict[str, str] = {}
        for number, record in records.items():
            try:
                replays[number] = self._replay_messages(record, sources_by_key, changes)
            except InvalidMessage as error:
                refused[number] = f"{error.reason}: {error.detail}"
        outgoing = [
            (number, message) for number, messages in replays.items() for message in messages
        ]
        faults = await self._publisher.publish(
            [message for _, message in outgoing], PUBLISH_SECONDS
        )
        failed = {
            number: str(fault)
            for (number, _), fault in zip(outgoing, faults, strict=True)
            if fault is not None
        }
        replayed = [number for number in replays if number not in failed]
        await self._mark(replayed, "replayed", author, note)
        return ReplayResult(replayed, refused | failed)

    async def drop(self, numbers: Sequence[str], author: str, note: str) -> int:
        """Mark dead letters as dropped; they stay on the topic. Return their number."""
        await self._get_records(numbers)
        await self._mark(numbers, "dropped", author, note)
        return len(numbers)

    async def _mark(
        self, numbers: Sequence[str], mark: dead_letter_marks.DeadLetterMark, author: str, note: str
    ) -> None:
        async with self._session.acquire() as connection, unit_of_work(connection):
            await dead_letter_marks.upsert_marks(
                connection, [parse_number(number) for number in numbers], mark, author, note
            )

    async def _get_records(self, numbers: Sequence[str]) -> dict[str, Record]:
        """Return the records of dead letters, in the order of `numbers`.

        Raises ConfigurationError, NotFound, Unavailable.
        """
        positions = {number: parse_number(number) for number in numbers}
        records: dict[RecordPosition, Record] = {}
        for topic in {topic for topic, _, _ in positions.values()}:
            offsets = [position[1:] for position in positions.values() if position[0] == topic]
            topic_records = await topic_reader.read_at_offsets(
                self._bootstrap_servers, topic, offsets
            )
            records |= {
                RecordPosition(topic, *offset): record for offset, record in topic_records.items()
            }
        missing = [number for number, position in positions.items() if position not in records]
        if missing:
            raise NotFound(
                f"no dead letter {', '.join(missing[:5])}: "
                "the topic has no such record, or has deleted it"
            )
        return {number: records[position] for number, position in positions.items()}

    def _replay_messages(
        self, record: Record, sources_by_key: Mapping[SourceKey, Source], changes: Changes
    ) -> list[Message]:
        """Return the messages of a dead letter's replay. Raises InvalidMessage."""
        error_headers = parse_error_headers(record.headers)
        if changes and (
            record.topic != TOPICS["ingest"] or error_headers.get("where") == BROKER_ERROR
        ):
            raise InvalidMessage("no_call", "only calls that ingest refused can be repaired")
        if record.topic != TOPICS["ingest"]:
            headers = [
                (name, value or b"")
                for name, value in record.headers
                if not name.startswith(HEADER_PREFIX)
            ]
            return [Message(error_headers.get("topic", ""), record.key, record.value, headers)]
        if error_headers.get("where") == BROKER_ERROR:
            return [touchpoint_message(decode_value(Touchpoint, record.value))]
        return self._replay_calls(record, error_headers, sources_by_key, changes)

    def _replay_calls(
        self,
        record: Record,
        error_headers: dict[str, str],
        sources_by_key: Mapping[SourceKey, Source],
        changes: Changes,
    ) -> list[Message]:
        workspace, _, name = error_headers.get("where", "").partition("/")
        source = sources_by_key.get(SourceKey(WorkspaceId(workspace), name))
        if source is None:
            raise InvalidMessage(
                "no_source", f"its source {error_headers.get('where')!r} does not exist any more"
            )
        context = RequestContext(
            source,
            refused_at(error_headers, self._clock.now()),
            _message_ids(record.key.decode("utf-8", "replace")).__next__,
            error_headers.get("type") or None,
            parse_batch_defaults(error_headers.get("batch", "")),
            self._rules,
        )
        if error_headers.get("lacks") and not any(path[0] == "context" for path, _ in changes):
            raise InvalidMessage(
                "lacks_context",
                "the context of its batch was too large for its dead letters: set its context",
            )
        raw = _apply_changes(record.value or b"", changes)
        adapter = error_headers.get("adapter")
        if adapter and error_headers.get("whole"):
            calls = [
                call
                for event in split_adapter_events(adapter, source, json_body.decode_document(raw))
                for call in convert_adapter_event(adapter, source, event)
            ]
        else:
            calls = convert_adapter_event(adapter, source, raw) if adapter else [parse_call(raw)]
        return [touchpoint_message(normalise(call, context)) for call in calls]


def _parse_repairs(repairs: Mapping[str, Any]) -> Changes:
    """Return the changes of {path: value}.

    Raises ConfigurationError for a complete call, which is to be sent again instead, and for a
    message id, on which the idempotence of replays depends.
    """
    changes = [(parse_path(path, "set"), value) for path, value in repairs.items()]
    if any(path in ((), ("messageId",)) for path, _ in changes):
        raise ConfigurationError(
            "set: give a part of the call, and not its messageId: "
            "dead letters with equal ids would count as one message"
        )
    return changes


def _apply_changes(raw: bytes, changes: Changes) -> bytes:
    """Return a call with the changes. Raises InvalidMessage for a path that it cannot have."""
    document = json_body.decode_document(raw) if changes else None
    for path, value in changes:
        document = set_at(path, document, value)
    return json_body.encode_json(document) if changes else raw


def _oldest(letters: list[DeadLetter], limit: int) -> list[DeadLetter]:
    return sorted(letters, key=lambda letter: letter.sort_key)[:limit]


def _position(record: Record) -> RecordPosition:
    return RecordPosition(record.topic, record.partition, record.offset)


def _letter_from_record(record: Record, mark: str) -> DeadLetter:
    return parse_dead_letter(
        _position(record), record.key, record.value, record.headers, record.timestamp, mark
    )


def _message_ids(first: str) -> Iterator[str]:
    """Yield message ids, the same at each replay: the dead letter's, then derived ones."""
    yield first
    for number in itertools.count(2):
        yield f"{first}:{number}"
