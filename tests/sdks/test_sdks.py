"""The libraries that users have, as their registries serve them, sending to our door over a mean stretch of road."""

import asyncio
import os
import shutil
import sys
import time
from urllib.parse import quote

import pytest

from cli.home import PROJECT
from libs.common.kafka.admin import apply_topics
from libs.common.messages import Touchpoint, decode
from tests.sdks.expected import TOTAL, check
from tests.sdks.mean import Road
from tests.sdks.pages import browser, pages
from tests.support.instance import PARTITIONS, Instance, clear_topics
from tests.support.kafka import read_topic

pytestmark = pytest.mark.timeout(300)
HERE = PROJECT / "tests" / "sdks"
NODE = HERE / "node"
BUILT = PROJECT / ".perigee" / "sdks"
LONG = os.environ.get("PERIGEE_SDKS") == "all"
SHORT = {"segment-python", "segment-node"}
# What the library does not have.
# What does not try again: it loses what a mean road loses, and that is no matter of the door.
ONCE = {"jitsu-node", "jitsu-browser"}
LACKS = {
    "jitsu-node": frozenset(("screen", "alias")),
    "jitsu-browser": frozenset(("screen", "alias")),
    "rudder-browser": frozenset(("screen",)),
}


@pytest.fixture
def door(tmp_path, servers, database):
    """A real ingest on real servers, and nothing else of Perigee."""
    asyncio.run(clear_topics(servers.kafka))
    instance = Instance(tmp_path, servers, database)
    asyncio.run(apply_topics(servers.kafka, PARTITIONS))
    ingest = instance.stack.services()[0]
    ingest.start()
    ingest.wait()
    yield instance
    instance.down()


def commands():
    python, node = [sys.executable, "-m"], [shutil.which("node") or "node"]
    return {
        "segment-python": [*python, "tests.sdks.python.segment_calls"],
        "rudder-python": [*python, "tests.sdks.python.rudder_calls"],
        "segment-node": [*node, str(NODE / "segment.mjs")],
        "rudder-node": [*node, str(NODE / "rudder.mjs")],
        "jitsu-node": [*node, str(NODE / "jitsu.mjs")],
        "segment-go": [str(BUILT / "segment-go")],
        "segment-java": ["java", "-cp", f"{BUILT / 'java'}/*:{BUILT / 'java' / 'classes'}", "Calls"],
    }


async def run(command, environment):
    process = await asyncio.create_subprocess_exec(
        *command, cwd=PROJECT, env={**os.environ, **environment},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await asyncio.wait_for(process.communicate(), 180)
    assert process.returncode == 0, said.decode()[-2_000:]
    return said.decode()


BROWSERS = {
    "segment-browser": "segment.html",
    "segment-browser-batching": "segment-batching.html",
    "rudder-browser": "rudder.html",
    "jitsu-browser": "jitsu.html",
}


@pytest.mark.skipif(not LONG, reason="a browser is part of the long form: make test-sdks")
@pytest.mark.parametrize("name", BROWSERS)
async def test_every_call_of_a_page_on_another_origin_is_there_once(door, servers, name):
    key = await door.source(name)
    lacks = LACKS.get(name, frozenset())
    road = Road(door.door, mean=name not in ONCE)
    try:
        with pages() as origin, browser(f"{origin}/{BROWSERS[name]}?host={quote(road.url)}&key={key}") as said:
            end = time.monotonic() + 60
            while len(found := await sent_by(name, servers)) < TOTAL - len(lacks) and time.monotonic() < end:
                await asyncio.sleep(0.5)
            await asyncio.sleep(3)  # what comes twice comes now
            print(said.read_text(errors="replace")[-3_000:])
    finally:
        road.close()
    found = await sent_by(name, servers)
    if name not in ONCE:
        assert (road.lost, road.twice) == (1, 1)  # in batches there are too few requests for a third
    check(found, lacks=lacks, paths=("/", f"/{BROWSERS[name]}"))  # some say where they are, whatever they are told


async def sent_by(name, servers):
    found = [decode(Touchpoint, r.value) for r in await read_topic(servers.kafka, "touchpoints", PARTITIONS)]
    return [t for t in found if t.source == name]


@pytest.mark.parametrize("name", [name for name in commands() if LONG or name in SHORT])
async def test_every_call_is_there_once_whatever_the_road_did(door, servers, name):
    key = await door.source(name)
    road = Road(door.door, mean=name not in ONCE)
    try:
        said = await run(commands()[name], {"PERIGEE_HOST": road.url, "PERIGEE_KEY": key})
    finally:
        road.close()
    if name not in ONCE:
        assert (road.lost, road.twice, road.limited) == (1, 1, 1), (road.lost, road.twice, road.limited, said)
    found = await sent_by(name, servers)
    check(found, lacks=LACKS.get(name, frozenset()))
