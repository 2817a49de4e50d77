"""Ids, time, retries, topics, failpoints, settings."""

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
def test_ids_differ_when_the_parts_do(one, other):
    assert (ids.derive_id(*one) == ids.derive_id(*other)) == (one == other)


def test_an_id_is_always_the_same():
    assert ids.derive_id("a", "b") == ids.derive_id("a", "b") != ids.derive_id("ab")
    assert len(ids.derive_id("a")) == 32


@given(st.integers(0, 4_000_000_000_000_000))
def test_instants_survive_datetimes(instant):
    assert from_datetime(to_datetime(instant)) == instant


def test_iso_and_clocks():
    assert to_iso(1_780_000_000_000_001) == "2026-05-28T20:26:40.000001Z"
    assert FixedClock(5).now() == 5
    assert SystemClock().now() > 1_780_000_000_000_000


@given(st.integers(1, 100), st.floats(0, 1, exclude_max=True))
def test_backoff_lies_between_half_and_whole_and_is_capped(attempt, chance):
    wait = backoff(attempt, base=1_000, cap=60_000, chance=chance)
    whole = min(60_000, 1_000 * 2 ** min(attempt - 1, 40))
    assert whole // 2 <= wait <= whole


@given(st.binary(max_size=80), st.integers(1, 64))
def test_a_key_has_the_partition_that_other_clients_give_it(key, partitions):
    places = list(range(partitions))
    assert partition_for_key(key, partitions) == DefaultPartitioner()(key, places, places)


def test_topics_are_declared_as_designed():
    names = [t.name for t in TOPICS]
    assert len(set(names)) == len(names)
    assert all("_" not in name and "." not in name for name in names)
    by_name = {t.name: t for t in TOPICS}
    assert by_name["touchpoints"].settings["message.timestamp.type"] == "LogAppendTime"
    assert by_name["contacts"].settings["cleanup.policy"] == "compact"


def test_a_failpoint_has_a_known_name():
    with pytest.raises(ValueError, match="unknown failpoint"):
        failpoints.arm("nowhere:1")
    failpoints.arm("")
    for name in failpoints.POINTS:
        failpoints.hit(name)


def test_missing_settings_are_all_named(monkeypatch):
    for name in ("KAFKA_BOOTSTRAP_SERVERS", "DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigurationError) as error:
        load_settings(CommonSettings)
    assert "KAFKA_BOOTSTRAP_SERVERS" in str(error.value)
    assert "DATABASE_URL" in str(error.value)


async def test_failures_without_end_leave_nothing_in_memory():
    """Tracebacks hold themselves, and a service's collector looks rarely."""
    made = weakref.WeakSet()
    stop = asyncio.Event()

    class Held:
        pass

    async def job():
        held = Held()
        made.add(held)
        try:
            raise OSError("away")
        except OSError as error:
            kept = error  # as the drivers do: the frame holds the error, whose traceback holds the frame
            if len(made) > 20 or next(turns) == 200:
                stop.set()
            raise Unavailable(str(kept)) from error

    turns = itertools.count()
    gc.disable()
    try:
        await run_periodically(stop, 0.0001, job)
    finally:
        gc.enable()
    assert len(made) < 5


def test_a_name_that_is_no_setting_stops_it_and_says_which_was_meant(monkeypatch):
    monkeypatch.setenv("PERIGEE_REACTION_WINDOWS", "1h")
    monkeypatch.setenv("PERIGEE_NONSENSE", "1")
    with pytest.raises(ConfigurationError, match="PERIGEE_REACTION_WINDOW is") as caught:
        load_settings(CommonSettings, kafka_bootstrap_servers="k", database_url="d")
    assert "PERIGEE_NONSENSE is no setting" in str(caught.value)


def test_every_setting_is_known_and_in_the_reference():
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


def test_an_invalid_message_carries_its_reason():
    error = InvalidMessage("no_ids", "needs one")
    assert (error.reason, str(error)) == ("no_ids", "no_ids: needs one")


@pytest.mark.parametrize(
    "passing", [asyncpg.InternalClientError, asyncpg.DeadlockDetectedError, TimeoutError, OSError]
)
def test_what_says_nothing_about_the_data_is_tried_again_and_buries_nothing(passing):
    with pytest.raises(Unavailable), translate_driver_errors():
        raise passing("x")
