"""The loop of every consumer, and the commit protocol it keeps.

1. Poll what is there. Partitions of which little waits are taken together, `TOGETHER` records or so; a backlog is taken
   partition by partition, at most 10,000 records at once. With several lanes some batches are taken side by side:
   while PostgreSQL works for one, Python works for another.
2. The handler decodes. What cannot be decoded becomes an outbox row for the service's dead letters in the same
   transaction: no offset passes it before it is safe.
3. Per batch, one READ COMMITTED transaction that begins with the fence (`libs.common.db.offsets`): the offset row of each
   of its partitions moves from the expected to the new offset, or another owner has one, and we roll back and rejoin.
4. Only relays publish (`libs.common.db.outbox_relay`); the handler writes outbox rows.
5. Too many dead letters in a row stop the consumer with a named error.
6. Kafka's own offsets are committed as a hint for lag tools. The truth is the row; a new owner seeks to it. There is no
   automatic reset: a gap in the log stops the consumer with a named error.

Errors of connections, locks and serialization retry the whole batch through the fence. An error that the data causes is
bisected until the one bad record stands alone; it is then buried as a dead letter.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from libs.common.errors import FenceLost, InvalidMessage, OffsetGap, PerigeeError, Unavailable
from libs.common.kafka.batching import combine_batches, max_batch_size
from libs.common.kafka.dead_letters import ConsecutiveCounter
from libs.common.kafka.rebalance import RebalanceListener
from libs.common.kafka.record import BatchHandler, Record, offset_ranges, record_from_aiokafka
from libs.common.kafka.shutdown import stop_consumer
from libs.common.observability import logs, metrics

BATCHES_PER_WORKER = 3
"""A turn of the loop ends after these, so that a rebalance never waits long for it."""
STUCK_SECONDS = 15
POLL_SECONDS = 5
FAILED_POLLS = 10
"""In a row, half a second apart: then the consumer is built anew."""
log = logs.get_logger(__name__)


Frontiers = Mapping[tuple[str, int], int]


class Consumer:
    """Runs a handler over the partitions that the group gives this process."""

    def __init__(
        self,
        *,
        bootstrap_servers: str,
        group: str,
        topics: Sequence[str],
        handler: BatchHandler,
        lanes: int = 1,
        session_timeout_ms: int = 10_000,
        on_progress: Callable[[Frontiers], Awaitable[None]] | None = None,
    ) -> None:
        self._handler = handler
        self._lanes = lanes
        self._max_batch = max_batch_size(session_timeout_ms)
        self._topics = list(topics)
        self._on_progress = on_progress
        self._barrier = asyncio.Lock()
        self._fault: Exception | None = None
        self._buried = ConsecutiveCounter()
        self._progress_at = 0.0
        self._failed_polls = 0
        self.last_poll = time.monotonic()
        self._last_batch = time.monotonic()
        self._watched_at = time.monotonic()
        self._first_guess: dict[Any, int] = {}
        self.committed: dict[tuple[str, int], int] = {}
        self._last_append: dict[tuple[str, int], int] = {}
        self._consumer: Any = AIOKafkaConsumer(
            bootstrap_servers=bootstrap_servers,
            group_id=group,
            enable_auto_commit=False,
            auto_offset_reset="none",
            session_timeout_ms=session_timeout_ms,
            heartbeat_interval_ms=max(100, session_timeout_ms // 4),
            max_poll_interval_ms=300_000,
            rebalance_timeout_ms=30_000,
            fetch_max_wait_ms=250,
            max_partition_fetch_bytes=6 * 1_048_576,
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Consume until `stop` is set. Raises OffsetGap, TooManyDeadLetters or ConfigurationError when it must not go on."""
        try:
            await self._start(stop)
            while not stop.is_set():
                await self._turn()
        finally:
            await stop_consumer(self._consumer)

    async def _start(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                await self._consumer.start()
            except (KafkaError, OSError) as error:
                log.warning("kafka_unavailable", error=repr(error))
                await asyncio.sleep(1)
            else:
                await self._guess_positions()
                self._consumer.subscribe(self._topics, listener=RebalanceListener(self))
                return

    async def _guess_positions(self) -> None:
        """Read the offsets of record before any partition is ours.

        On assignment aiokafka looks for committed offsets at once, and where it finds none before our listener has
        seeked, its fetcher fails. A position from the first instant on, right or not, keeps it from looking.
        """
        places = []
        for topic in self._topics:
            await self._consumer._client._wait_on_metadata(topic)  # noqa: SLF001
            places += [
                TopicPartition(topic, p) for p in self._consumer.partitions_for_topic(topic) or ()
            ]
        beginnings = await self._consumer.beginning_offsets(places)
        self._first_guess = {
            tp: await self._handler.next_offset(tp.topic, tp.partition, beginnings[tp])
            for tp in places
        }

    async def _turn(self) -> None:
        if self._fault is not None:
            raise self._fault
        try:
            # Without an assignment a poll waits for one for ever; what went wrong with it has to be seen meanwhile.
            polled = await asyncio.wait_for(self._poll(), POLL_SECONDS)
        except TimeoutError:
            return
        except KafkaError as error:
            log.warning("poll_failed", error=repr(error))
            self._failed_polls += 1
            if (
                self._failed_polls >= FAILED_POLLS
            ):  # what coordinates the group may be gone, and says the same for ever
                raise Unavailable(
                    f"{self._failed_polls} polls in a row failed, the last with {error!r}"
                ) from None
            await self._rewind(self._consumer.assignment())
            await asyncio.sleep(0.5)
            return
        self._failed_polls, self.last_poll = 0, time.monotonic()
        async with self._barrier:
            ours = {tp: raw for tp, raw in polled.items() if tp in self._consumer.assignment()}
            waiting = [
                raw for tp, raw in ours.items() if (tp.topic, tp.partition) in self.committed
            ]
            rest = iter(combine_batches(waiting))
            lanes = (self._take_all(rest) for _ in range(self._lanes))
            for fault in await asyncio.gather(*lanes, return_exceptions=True):
                if fault is not None:
                    raise fault
            await self._report()

    async def _poll(self) -> dict[Any, Any]:
        """Return what is there, a few batches for each lane: a poll alone gives all it may from the first partition."""
        polled: dict[Any, Any] = await self._consumer.getmany(
            timeout_ms=200, max_records=self._max_batch
        )
        for tp in sorted(self._consumer.assignment() - polled.keys()) if polled else ():
            if len(polled) >= BATCHES_PER_WORKER * self._lanes:
                break
            polled |= await self._consumer.getmany(tp, timeout_ms=0, max_records=self._max_batch)
        return polled

    async def _take_all(self, rest: Iterator[list[Any]]) -> None:
        """Take one batch after the other; the lanes share what is left, so that none waits long for another."""
        for raw in rest:
            await self._take([record_from_aiokafka(r) for r in raw])

    async def _take(self, records: list[Record]) -> None:
        self._last_batch = time.monotonic()
        places = offset_ranges(records)
        try:
            await self._process(records)
            self.committed.update((place, end) for place, (_, end) in places.items())
            self._last_append.update(((r.topic, r.partition), r.timestamp) for r in records)
        except FenceLost as error:
            metrics.FENCED.labels(service=self._consumer._group_id).inc()  # noqa: SLF001
            log.warning("fenced", error=str(error))
            await self._rewind(places)
        except Unavailable as error:
            log.warning(
                "batch_retried",
                places=[f"{place[0]}-{place[1]}" for place in places],
                error=str(error),
            )
            await asyncio.sleep(0.3)
            await self._rewind(places)

    async def _process(self, records: list[Record]) -> None:
        """Handle a batch; on an error of the data halve it until the one bad record stands alone."""
        try:
            bad = await self._handler.handle(records)
        except Exception as error:
            if isinstance(error, PerigeeError) and not isinstance(error, InvalidMessage):
                raise  # a lost fence, a dependency, a wrong configuration: nothing that the data did
            if len(records) > 1:
                middle = len(records) // 2
                await self._process(records[:middle])
                await self._process(records[middle:])
                return
            log.error("record_buried", offset=records[0].offset, error=type(error).__name__)  # noqa: TRY400
            await self._handler.store_dead_letter(records[0], error)
            bad = 1
        self._buried.add_batch(bad, len(records), records[0])

    async def _rewind(self, places: Iterable[tuple[str, int]]) -> None:
        for tp in (TopicPartition(*place) for place in places):
            if tp not in self._consumer.assignment():
                continue
            try:
                offset = await self._offset_of_record(tp)
                if tp in self._consumer.assignment():
                    self._consumer.seek(tp, offset)
                    self.committed[tp.topic, tp.partition] = offset
            except (KafkaError, Unavailable, AssertionError) as error:
                raise Unavailable(
                    f"{tp.topic}-{tp.partition} cannot be sought: {error!r}"
                ) from error

    async def partitions_assigned(self, partitions: Sequence[Any]) -> None:
        """Seek each newly owned partition to the offset of record."""
        for tp in partitions:
            self._consumer.seek(tp, self._first_guess.get(tp, 0))
        try:
            for tp in sorted(partitions):
                offset = await self._offset_of_record(tp)
                self._consumer.seek(tp, offset)
                self.committed[tp.topic, tp.partition] = offset
        except PerigeeError as error:
            self._fault = error
        except Exception as error:  # noqa: BLE001
            log.warning("assignment_failed", error=repr(error))
            self._fault = Unavailable(f"assignment failed: {error!r}")

    async def _offset_of_record(self, tp: Any) -> int:
        """Return the offset that comes next. Raises OffsetGap when the log does not reach from it to its end."""
        beginning = (await self._consumer.beginning_offsets([tp]))[tp]
        offset = await self._handler.next_offset(tp.topic, tp.partition, beginning)
        # After the row: another owner may be moving it towards an end that is moving too.
        end = (await self._consumer.end_offsets([tp]))[tp]
        if not beginning <= offset <= end:
            raise OffsetGap(
                f"{tp.topic}-{tp.partition} begins at {beginning} and ends at {end}, but {offset} comes next: records were "
                "deleted unread, or the topic was made anew. Restore it or move the offset row by hand (docs/operations.md)"
            )
        return offset

    async def partitions_revoked(self) -> None:
        """Let the batch in hand end before the partitions go."""
        async with self._barrier:
            self.committed.clear()
            self._last_append.clear()

    async def _report(self) -> None:
        if time.monotonic() - self._progress_at < 1:
            return
        self._progress_at = time.monotonic()
        owned = [
            tp for tp in self._consumer.assignment() if (tp.topic, tp.partition) in self.committed
        ]
        for tp in owned:
            lag = (self._consumer.highwater(tp) or 0) - self.committed[tp.topic, tp.partition]
            metrics.CONSUMER_LAG.labels(topic=tp.topic, partition=tp.partition).set(max(0, lag))
        await self._watch(owned)
        await self._hint({tp: self.committed[tp.topic, tp.partition] for tp in owned})
        if self._on_progress is not None:
            reached = {(tp.topic, tp.partition): self._reached(tp) for tp in owned}
            try:
                await self._on_progress(
                    {tp: instant for tp, instant in reached.items() if instant is not None}
                )
            except Unavailable as error:
                log.warning("progress_not_written", error=str(error))

    async def _watch(self, owned: list[Any]) -> None:
        """Raise Unavailable when records wait and none come: aiokafka's fetcher can stop without a word."""
        idle_since = max(self._last_batch, self._watched_at)
        if owned and time.monotonic() - idle_since > STUCK_SECONDS:
            self._watched_at = time.monotonic()
            ends = await self._consumer.end_offsets(owned)
            waiting = {
                f"{tp.topic}-{tp.partition}"
                for tp in owned
                if ends[tp] > self.committed[tp.topic, tp.partition]
            }
            if not waiting:
                return
            try:
                # Bounded, since in a rebalance a poll waits for the listener, which waits for the barrier held here.
                fetched = await asyncio.wait_for(self._consumer.getmany(timeout_ms=1_000), 3)
            except TimeoutError:
                fetched = {}
            if not fetched:
                raise Unavailable(f"records wait on {sorted(waiting)} and none are fetched")
            await self._rewind(self._consumer.assignment())

    def _reached(self, tp: Any) -> int | None:
        """Return the instant up to which this partition is known and committed, or None.

        The poll time counts only from a fetch answer whose high watermark is where we stand; an empty poll proves
        nothing.
        """
        polled_ms = self._consumer.last_poll_timestamp(tp)
        if (
            polled_ms is not None
            and self._consumer.highwater(tp) == self.committed[tp.topic, tp.partition]
        ):
            return int(polled_ms) * 1_000
        return self._last_append.get((tp.topic, tp.partition))

    async def _hint(self, offsets: dict[Any, int]) -> None:
        if offsets:
            with contextlib.suppress(KafkaError, ValueError, TimeoutError):
                await asyncio.wait_for(self._consumer.commit(offsets), 2)
