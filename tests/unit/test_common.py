"""Common library: ids, instants, retries, partitions, topics, failpoints, settings."""

import asyncio
import gc
import itertools
import weakref

import asyncpg
import pytest
from aiokafka.partitioner import DefaultPartitioner
from hypothesis import given
from hypothesis import strategies as st

from cli import settings_reference
from libs.common import failpoints, ids
from libs.common.clock import FixedClock, SystemClock
from libs.common.db.connection import translate_driver_errors
from libs.common.errors import ConfigurationError, InvalidMessage, Unavailable
from libs.common.instants import from_datetime, to_datetime, to_iso
from libs.common.partitioner import partition_for_key
from libs.common.retry import backoff
from libs.common.service_runner import run_periodically
from libs.common.settings import NAMES, CommonSettings, load_settings
from libs.common.topics import TOPICS


@given(st.lists(st.text(), max_size=4), st.lists(st.text(), max_size=4))
def test_derived_ids_differ_with_their_parts(parts, other_parts):
    assert (ids.derive_id(*parts) == ids.derive_id(*other_parts)) == (parts == other_parts)


def test_derived_id_is_stable():
    assert ids.derive_id("a", "b") == ids.derive_id("a", "b") != ids.derive_id("ab")
    assert len(ids.derive_id("a")) == 32


@given(st.integers(0, 4_000_000_000_000_000))
def test_instant_converts_to_datetime_and_back(instant):
    assert from_datetime(to_datetime(instant)) == instant


def test_iso_format_and_clocks():
    assert to_iso(1_780_000_000_000_001) == "2026-05-28T20:26:40.000001Z"
    assert FixedClock(5).now() == 5
    assert SystemClock().now() > 1_780_000_000_000_000


@given(st.integers(1, 100), st.floats(0, 1, exclude_max=True))
def test_backoff_is_capped_with_half_jitter(attempt, chance):
    delay = backoff(attempt, base=1_000, cap=60_000, chance=chance)

    full_delay = min(60_000, 1_000 * 2 ** min(attempt - 1, 40))

    assert full_delay // 2 <= delay <= full_delay


@given(st.binary(max_size=80), st.integers(1, 64))
def test_partition_of_key_equals_other_clients(key, partitions):
    all_partitions = list(range(partitions))

    assert partition_for_key(key, partitions) == DefaultPartitioner()(
        key, all_partitions, all_partitions
    )


def test_topics_have_unique_valid_names_and_settings():
    names = [topic.name for topic in TOPICS]

    assert len(set(names)) == len(names)
    assert all("_" not in name and "." not in name for name in names)

    by_name = {topic.name: topic for topic in TOPICS}

    assert by_name["touchpoints"].settings["message.timestamp.type"] == "LogAppendTime"
    assert by_name["contacts"].settings["cleanup.policy"] == "compact"


def test_unknown_failpoint_is_refused():
    with pytest.raises(ValueError, match="unknown failpoint"):
        failpoints.arm("nowhere:1")

    failpoints.arm("")
    for name in failpoints.POINTS:
        failpoints.hit(name)


def test_error_names_all_missing_settings(monkeypatch):
    for name in ("KAFKA_BOOTSTRAP_SERVERS", "DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)

    with pytest.raises(ConfigurationError) as error:
        load_settings(CommonSettings)

    assert "KAFKA_BOOTSTRAP_SERVERS" in str(error.value)
    assert "DATABASE_URL" in str(error.value)


async def test_repeated_job_failures_leak_no_memory():
    """Tracebacks are reference cycles, and the garbage collector of a service runs rarely."""
    live_objects = weakref.WeakSet()
    stop = asyncio.Event()

    class Resource:
        pass

    async def job():
        resource = Resource()
        live_objects.add(resource)
        try:
            raise OSError("away")
        except OSError as error:
            # As in the drivers: the stack refers to the error, and its traceback to the stack.
            reference = error
            if len(live_objects) > 20 or next(runs) == 200:
                stop.set()
            raise Unavailable(str(reference)) from error

    runs = itertools.count()
    gc.disable()

    try:
        await run_periodically(stop, 0.0001, job)
    finally:
        gc.enable()

    assert len(live_objects) < 5


def test_unknown_setting_is_refused_with_suggestion(monkeypatch):
    monkeypatch.setenv("PERIGEE_REACTION_WINDOWS", "1h")
    monkeypatch.setenv("PERIGEE_NONSENSE", "1")

    with pytest.raises(ConfigurationError, match="PERIGEE_REACTION_WINDOW is") as error:
        load_settings(CommonSettings, kafka_bootstrap_servers="k", database_url="d")

    assert "PERIGEE_NONSENSE is no setting" in str(error.value)


def test_settings_reference_is_up_to_date():
    declared = {name for name in settings_reference.list_settings() if name.startswith("PERIGEE_")}

    assert declared == NAMES
    assert settings_reference.PAGE.read_text() == settings_reference.render_page(), (
        "run: python -m cli.settings_reference"
    )


def test_settings_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "k:1")
    monkeypatch.setenv("DATABASE_URL", "postgresql://d")
    monkeypatch.setenv("PERIGEE_PARTITIONS", "3")

    settings = load_settings(CommonSettings)

    assert (settings.kafka_bootstrap_servers, settings.partitions) == ("k:1", 3)


def test_invalid_message_has_reason():
    error = InvalidMessage("no_ids", "needs one")

    assert (error.reason, str(error)) == ("no_ids", "no_ids: needs one")


@pytest.mark.parametrize(
    "error", [asyncpg.InternalClientError, asyncpg.DeadlockDetectedError, TimeoutError, OSError]
)
def test_passing_driver_errors_become_unavailable(error):
    with pytest.raises(Unavailable), translate_driver_errors():
        raise error("x")
