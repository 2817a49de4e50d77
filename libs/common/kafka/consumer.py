"""Consumer loop of every service, with offsets committed in PostgreSQL.

1. Poll. Partitions with few records share a batch (`batching.MIN_BATCH`); a backlog is processed
   partition by partition, at most 10,000 records a batch. Several workers process batches
   concurrently: while PostgreSQL works on one batch, Python works on another.
2. The handler decodes. A record that cannot be decoded becomes an outbox row for the service's
   dead-letter queue in the same transaction: no offset passes it before it is stored.
3. Each batch is one READ COMMITTED transaction that begins with the offset fence
   (`libs.common.db.offsets`): the offset row of each of its partitions moves from the expected to
   the new offset. If another owner moved a row, the consumer rolls back and seeks to the row.
4. Only relays publish (`libs.common.db.outbox_relay`); the handler writes outbox rows.
5. Too many consecutive dead letters stop the consumer with TooManyDeadLetters.
6. Kafka's own offsets are committed only as a hint for lag tools. The offset of record is the row,
   to which a new owner seeks. There is no automatic reset: a gap stops the consumer with OffsetGap.

Errors of connections, locks and serialization retry the whole batch through the fence. On an error
caused by the data the batch is bisected until the bad record is alone and becomes a dead letter.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from libs.common.errors import FenceLost, InvalidMessage, PerigeeError, Unavailable
from libs.common.kafka.batching import combine_batches, max_batch_size
from libs.common.kafka.dead_letters import ConsecutiveCounter
from libs.common.kafka.offset_lookup import get_offsets_of_record, read_initial_offsets
from libs.common.kafka.progress_reporter import Frontiers, ProgressReporter
from libs.common.kafka.rebalance import RebalanceListener
from libs.common.kafka.record import BatchHandler, Record, offset_ranges, record_from_aiokafka
from libs.common.kafka.shutdown import stop_consumer
from libs.common.observability import logs, metrics

BATCHES_PER_WORKER = 3
"""Limit for one loop iteration, so that a rebalance never waits long for it."""
STUCK_SECONDS = 15
POLL_SECONDS = 5
FETCH_WAIT_MS = 500
"""Longest time that a fetch without records stays open; the frontier lags by as much."""
FAILED_POLLS = 10
"""Consecutive failures, half a second apart, after which the consumer is rebuilt."""
log = logs.get_logger(__name__)


class Consumer:
    """Runs a handler on the partitions that the group assigns to this process."""

    def __init__(
        self,
        *,
        bootstrap_servers: str,
        group: str,
        topics: Sequence[str],
        handler: BatchHandler,
        workers: int = 1,
        session_timeout_ms: int = 10_000,
        on_progress: Callable[[Frontiers], Awaitable[None]] | None = None,
    ) -> None:
        self._handler = handler
        self._workers = workers
        self._max_batch = max_batch_size(session_timeout_ms)
        self._topics = list(topics)
        self._barrier = asyncio.Lock()
        self._fault: Exception | None = None
        self._dead_letters = ConsecutiveCounter()
        self._failed_polls = 0
        self.last_poll = time.monotonic()
        self._last_batch = time.monotonic()
        self._checked_at = time.monotonic()
        self._initial_offsets: dict[Any, int] = {}
        self._consumer: Any = AIOKafkaConsumer(
            bootstrap_servers=bootstrap_servers,
            group_id=group,
            enable_auto_commit=False,
            auto_offset_reset="none",
            session_timeout_ms=session_timeout_ms,
            heartbeat_interval_ms=max(100, session_timeout_ms // 4),
            max_poll_interval_ms=300_000,
            rebalance_timeout_ms=30_000,
            fetch_max_wait_ms=FETCH_WAIT_MS,
            consumer_timeout_ms=FETCH_WAIT_MS,
            max_partition_fetch_bytes=6 * 1_048_576,
        )
        self._progress = ProgressReporter(self._consumer, on_progress)

    @property
    def committed(self) -> dict[tuple[str, int], int]:
        """By (topic, partition), the offset of record of the owned partitions."""
        return self._progress.committed

    async def run(self, stop: asyncio.Event) -> None:
        """Consume until `stop` is set.

        Raises OffsetGap, TooManyDeadLetters or ConfigurationError when it must not continue.
        """
        stopping = asyncio.ensure_future(stop.wait())
        try:
            await self._start(stop)
            while not stop.is_set():
                await self._run_iteration(stopping)
        finally:
            stopping.cancel()
            await stop_consumer(self._consumer)

    async def _start(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                await self._consumer.start()
            except (KafkaError, OSError) as error:
                log.warning("kafka_unavailable", error=repr(error))
                await asyncio.sleep(1)
            else:
                self._initial_offsets = await read_initial_offsets(
                    self._consumer, self._handler, self._topics
                )
                self._consumer.subscribe(self._topics, listener=RebalanceListener(self))
                return

    async def _run_iteration(self, stopping: asyncio.Future[Any]) -> None:
        if self._fault is not None:
            raise self._fault
        try:
            polled = await self._poll_until(stopping)
            if polled is None:
                return
        except KafkaError as error:
            log.warning("poll_failed", error=repr(error))
            self._failed_polls += 1
            if self._failed_polls >= FAILED_POLLS:
                # The group coordinator may be gone; polling again would fail forever.
                raise Unavailable(
                    f"{self._failed_polls} consecutive polls failed, the last with {error!r}"
                ) from None
            await self._rewind(self._consumer.assignment())
            await asyncio.sleep(0.5)
            return
        self._failed_polls, self.last_poll = 0, time.monotonic()
        async with self._barrier:
            assigned = {tp: raw for tp, raw in polled.items() if tp in self._consumer.assignment()}
            waiting = [
                raw for tp, raw in assigned.items() if (tp.topic, tp.partition) in self.committed
            ]
            batches = iter(combine_batches(waiting))
            workers = (self._process_batches(batches) for _ in range(self._workers))
            for fault in await asyncio.gather(*workers, return_exceptions=True):
                if fault is not None:
                    raise fault
            await self._report()

    async def _poll_until(self, stopping: asyncio.Future[Any]) -> dict[Any, Any] | None:
        """Return the polled records, or None on a stop or after POLL_SECONDS without a result.

        Bounded: without an assignment a poll never returns, and a fault of the assignment
        (`_fault`) must be raised meanwhile.
        """
        polling = asyncio.ensure_future(self._poll())
        try:
            await asyncio.wait(
                {polling, stopping}, timeout=POLL_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
            return polling.result() if polling.done() else None
        finally:
            polling.cancel()

    async def _poll(self) -> dict[Any, Any]:
        """Poll a few batches for each worker.

        A single poll could return records of the first partition only.
        """
        until_report = self._progress.seconds_until_report()
        polled: dict[Any, Any] = await self._consumer.getmany(
            timeout_ms=math.ceil(until_report * 1_000), max_records=self._max_batch
        )
        for tp in sorted(self._consumer.assignment() - polled.keys()) if polled else ():
            if len(polled) >= BATCHES_PER_WORKER * self._workers:
                break
            polled |= await self._consumer.getmany(tp, timeout_ms=0, max_records=self._max_batch)
        return polled

    async def _process_batches(self, batches: Iterator[list[Any]]) -> None:
        """Process batches of the iterator, which all workers share, until it is empty."""
        for raw in batches:
            await self._process_batch([record_from_aiokafka(r) for r in raw])

    async def _process_batch(self, records: list[Record]) -> None:
        self._last_batch = time.monotonic()
        ranges = offset_ranges(records)
        try:
            await self._process(records)
            self._progress.add_batch(ranges, records)
        except FenceLost as error:
            metrics.FENCED.labels(service=self._consumer._group_id).inc()  # noqa: SLF001
            log.warning("fenced", error=str(error))
            await self._rewind(ranges)
        except Unavailable as error:
            log.warning(
                "batch_retried",
                places=[f"{topic}-{partition}" for topic, partition in ranges],
                error=str(error),
            )
            await asyncio.sleep(0.3)
            await self._rewind(ranges)

    async def _process(self, records: list[Record]) -> None:
        """Handle a batch; on an error of the data bisect it until the bad record is alone."""
        try:
            bad = await self._handler.handle(records)
        except Exception as error:
            if isinstance(error, PerigeeError) and not isinstance(error, InvalidMessage):
                raise  # not caused by the data: a lost fence, a dependency, the configuration
            if len(records) > 1:
                middle = len(records) // 2
                await self._process(records[:middle])
                await self._process(records[middle:])
                return
            log.error("record_dead_lettered", offset=records[0].offset, error=type(error).__name__)  # noqa: TRY400
            await self._handler.store_dead_letter(records[0], error)
            bad = 1
        self._dead_letters.add_batch(bad, len(records), records[0])

    async def _rewind(self, partitions: Iterable[tuple[str, int]]) -> None:
        assigned = self._consumer.assignment().intersection(
            TopicPartition(*partition) for partition in partitions
        )
        try:
            for tp, offset in (
                await get_offsets_of_record(self._consumer, self._handler, assigned)
            ).items():
                if tp in self._consumer.assignment():
                    self._consumer.seek(tp, offset)
                    self._progress.set_committed(tp, offset)
        except (KafkaError, Unavailable, AssertionError) as error:
            names = ", ".join(f"{tp.topic}-{tp.partition}" for tp in sorted(assigned))
            raise Unavailable(f"{names}: seek failed: {error!r}") from error

    async def partitions_assigned(self, partitions: Sequence[Any]) -> None:
        """Seek each newly owned partition to its offset of record."""
        for tp in partitions:
            self._consumer.seek(tp, self._initial_offsets.get(tp, 0))
        try:
            for tp, offset in (
                await get_offsets_of_record(self._consumer, self._handler, partitions)
            ).items():
                self._consumer.seek(tp, offset)
                self._progress.set_committed(tp, offset)
        except PerigeeError as error:
            self._fault = error
        except Exception as error:  # noqa: BLE001
            log.warning("assignment_failed", error=repr(error))
            self._fault = Unavailable(f"assignment failed: {error!r}")

    async def partitions_revoked(self) -> None:
        """Wait for the current batch before the partitions are given up."""
        async with self._barrier:
            self._progress.clear()

    async def _report(self) -> None:
        if self._progress.seconds_until_report() == 0:
            await self._check_fetching(self._progress.owned_partitions())
            await self._progress.report()

    async def _check_fetching(self, owned: list[Any]) -> None:
        """Raise Unavailable if records wait but none arrive: aiokafka's fetcher may hang."""
        idle_since = max(self._last_batch, self._checked_at)
        if owned and time.monotonic() - idle_since > STUCK_SECONDS:
            self._checked_at = time.monotonic()
            ends = await self._consumer.end_offsets(owned)
            waiting = {
                f"{tp.topic}-{tp.partition}"
                for tp in owned
                if ends[tp] > self.committed[tp.topic, tp.partition]
            }
            if not waiting:
                return
            try:
                # Bounded: in a rebalance a poll waits for the listener, and the listener for the
                # barrier, which this task has locked.
                fetched = await asyncio.wait_for(self._consumer.getmany(timeout_ms=1_000), 3)
            except TimeoutError:
                fetched = {}
            if not fetched:
                raise Unavailable(f"records wait on {sorted(waiting)} and none are fetched")
            await self._rewind(self._consumer.assignment())
