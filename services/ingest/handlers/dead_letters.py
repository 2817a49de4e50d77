"""Repairing what was refused: look at it, try it again after a fix, or say that it is to be left.

A replay gives each letter the same id as the first time, so that twice is once: a touchpoint's is its `messageId`, or the one
that the door made up when it was refused, which is the letter's key.
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
from libs.common.kafka import topic_reader
from libs.common.kafka.record import Record
from libs.common.messages import Message, Touchpoint, decode_value
from services.ingest.domain import json_body
from services.ingest.domain.dead_letter import (
    BROKER_ERROR,
    HEADER_PREFIX,
    TOPICS,
    DeadLetter,
    parse_dead_letter,
    parse_error_headers,
    parse_number,
    parse_page_cursor,
    refused_at,
)
from services.ingest.domain.json_path import JsonPath, parse_path, set_at
from services.ingest.domain.normalise import normalise
from services.ingest.domain.request_context import NormalisationRules, RequestContext
from services.ingest.domain.source import Source
from services.ingest.domain.tracking_call import parse_call
from services.ingest.handlers.adapter_calls import convert_adapter_event, split_adapter_events
from services.ingest.handlers.ingestion import MessagePublisher
from services.ingest.handlers.outgoing_messages import parse_batch_defaults, touchpoint_message
from services.ingest.repository import dead_letter_marks, sources

PUBLISH_SECONDS = 30
Changes = Sequence[tuple[JsonPath, Any]]


class ReplayResult(msgspec.Struct, frozen=True):
    """What a replay came to: {number: why} of those that are refused again."""

    replayed: list[str]
    refused: dict[str, str]


class DeadLetterPage(msgspec.Struct, frozen=True):
    """Letters, what they hold cut off, and how many there are from here on."""

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
        fits: Callable[[DeadLetter], bool],
        *,
        marked: bool = False,
        limit: int = 100,
        after: str = "",
    ) -> DeadLetterPage:
        """Return the first letters of a service that fit, oldest first; those that were replayed or dropped only when asked.

        `after` is where an earlier page ended. Raises NotFound for an unknown service, ConfigurationError, Unavailable.
        """
        begin = parse_page_cursor(after) if after else (0, "")
        topic = TOPICS.get(service)
        if topic is None:
            raise NotFound(f"no service {service!r}: {', '.join(TOPICS)}")
        async with self._session.acquire() as connection:
            known = await dead_letter_marks.get_marks(connection, topic)
        letters: list[DeadLetter] = []
        count = 0
        async for record in topic_reader.read_to_end(self._bootstrap_servers, topic):
            place = (record.topic, record.partition, record.offset)
            one = _letter(record, known.get(place, ""))
            if (marked or not one.mark) and one.sort_key > begin and fits(one):
                count += 1
                letters.append(one.truncated())
                if len(letters) > 2 * limit:
                    letters = _oldest(letters, limit)
        return DeadLetterPage(_oldest(letters, limit), count)

    async def get(self, number: str) -> DeadLetter:
        """Return one letter. Raises ConfigurationError, NotFound, Unavailable."""
        record = (await self._records([number]))[number]
        async with self._session.acquire() as connection:
            known = await dead_letter_marks.get_marks(connection, record.topic)
        return _letter(record, known.get((record.topic, record.partition, record.offset), ""))

    async def replay(
        self,
        numbers: Sequence[str],
        author: str,
        note: str,
        repairs: Mapping[str, Any] | None = None,
    ) -> ReplayResult:
        """Try letters again: a refused call passes the door as it is now, a record goes back to its topic as it was.

        `repairs` puts values into refused calls first: {place in the call: value}. What is refused again stays a letter.
        Raises ConfigurationError, NotFound, Unavailable.
        """
        changes = _changes(repairs or {})
        note = f"{note} [set {json.dumps(repairs)}]".strip() if repairs else note
        records = await self._records(numbers)
        async with self._session.acquire() as connection:
            known = {(s.workspace, s.name): s for s in await sources.list_sources(connection)}
        again: dict[str, list[Message]] = {}
        refused: dict[str, str] = {}
        for number, record in records.items():
            try:
                again[number] = self._again(record, known, changes)
            except InvalidMessage as error:
                refused[number] = f"{error.reason}: {error.detail}"
        sent = [(number, message) for number, messages in again.items() for message in messages]
        faults = await self._publisher.publish([message for _, message in sent], PUBLISH_SECONDS)
        failed = {
            number: str(fault)
            for (number, _), fault in zip(sent, faults, strict=True)
            if fault is not None
        }
        done = [number for number in again if number not in failed]
        await self._mark(done, "replayed", author, note)
        return ReplayResult(done, refused | failed)

    async def drop(self, numbers: Sequence[str], author: str, note: str) -> int:
        """Say that letters are to be left; they stay on the topic. Return how many."""
        await self._records(numbers)
        await self._mark(numbers, "dropped", author, note)
        return len(numbers)

    async def _mark(
        self, numbers: Sequence[str], mark: dead_letter_marks.DeadLetterMark, author: str, note: str
    ) -> None:
        async with self._session.acquire() as connection, unit_of_work(connection):
            await dead_letter_marks.upsert_marks(
                connection, [parse_number(number) for number in numbers], mark, author, note
            )

    async def _records(self, numbers: Sequence[str]) -> dict[str, Record]:
        """Return the letters of these numbers, in their order. Raises ConfigurationError, NotFound, Unavailable."""
        places = {number: parse_number(number) for number in numbers}
        found: dict[tuple[str, int, int], Record] = {}
        for topic in {place[0] for place in places.values()}:
            wanted = [place[1:] for place in places.values() if place[0] == topic]
            records = await topic_reader.read_at_offsets(self._bootstrap_servers, topic, wanted)
            found |= {(topic, *place): record for place, record in records.items()}
        missing = [number for number, place in places.items() if place not in found]
        if missing:
            raise NotFound(
                f"no dead letter {', '.join(missing[:5])}: the topic does not hold it, or not any more"
            )
        return {number: found[place] for number, place in places.items()}

    def _again(
        self, record: Record, known: Mapping[tuple[str, str], Source], changes: Changes
    ) -> list[Message]:
        said = parse_error_headers(record.headers)
        if changes and (record.topic != TOPICS["ingest"] or said.get("where") == BROKER_ERROR):
            raise InvalidMessage("no_call", "only calls that the door refused can be repaired")
        if record.topic != TOPICS["ingest"]:
            headers = [
                (name, value or b"")
                for name, value in record.headers
                if not name.startswith(HEADER_PREFIX)
            ]
            return [Message(said.get("topic", ""), record.key, record.value, headers)]
        if said.get("where") == BROKER_ERROR:
            return [touchpoint_message(decode_value(Touchpoint, record.value))]
        return self._call_again(record, said, known, changes)

    def _call_again(
        self,
        record: Record,
        said: dict[str, str],
        known: Mapping[tuple[str, str], Source],
        changes: Changes,
    ) -> list[Message]:
        workspace, _, name = said.get("where", "").partition("/")
        source = known.get((workspace, name))
        if source is None:
            raise InvalidMessage(
                "no_source", f"its source {said.get('where')!r} is not there any more"
            )
        received = RequestContext(
            source,
            refused_at(said, self._clock.now()),
            _ids(record.key.decode("utf-8", "replace")).__next__,
            said.get("type") or None,
            parse_batch_defaults(said.get("batch", "")),
            self._rules,
        )
        if said.get("lacks") and not any(path[0] == "context" for path, _ in changes):
            raise InvalidMessage(
                "lacks_context",
                "its batch said more than could be kept with each letter: set its context",
            )
        raw = _repaired(record.value or b"", changes)
        adapter = said.get("adapter")
        if adapter and said.get("whole"):
            calls = [
                call
                for event in split_adapter_events(adapter, source, json_body.decode_document(raw))
                for call in convert_adapter_event(adapter, source, event)
            ]
        else:
            calls = convert_adapter_event(adapter, source, raw) if adapter else [parse_call(raw)]
        return [touchpoint_message(normalise(call, received)) for call in calls]


def _changes(repairs: Mapping[str, Any]) -> Changes:
    """Read what is to be put where. Raises ConfigurationError: a whole call is sent anew, and an id is what makes twice once."""
    found = [(parse_path(place, "set"), value) for place, value in repairs.items()]
    if any(path in ((), ("messageId",)) for path, _ in found):
        raise ConfigurationError(
            "set: a part of the call, and not its messageId: letters with one id would count as one"
        )
    return found


def _repaired(raw: bytes, changes: Changes) -> bytes:
    """Return a call with the changes. Raises InvalidMessage for a place that cannot be in it."""
    document = json_body.decode_document(raw) if changes else None
    for path, value in changes:
        document = set_at(path, document, value)
    return json_body.encode_json(document) if changes else raw


def _oldest(letters: list[DeadLetter], limit: int) -> list[DeadLetter]:
    return sorted(letters, key=lambda one: one.sort_key)[:limit]


def _letter(record: Record, mark: str) -> DeadLetter:
    place = (record.topic, record.partition, record.offset)
    return parse_dead_letter(
        place, record.key, record.value, record.headers, record.timestamp, mark
    )


def _ids(first: str) -> Iterator[str]:
    """Yield the same ids at each replay: the letter's own, and others for further calls that have none."""
    yield first
    for number in itertools.count(2):
        yield f"{first}:{number}"
