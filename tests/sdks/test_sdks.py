"""The libraries that users have, as their registries serve them, sending to our door over a mean stretch of road."""

import asyncio
import os
import shutil
import sys

import pytest

from cli.home import PROJECT
from tests.sdks.expected import LACKS, ONCE, check, sent_by
from tests.sdks.faulty_proxy import Road

pytestmark = pytest.mark.timeout(300)
HERE = PROJECT / "tests" / "sdks"
NODE = HERE / "node"
BUILT = PROJECT / ".perigee" / "sdks"
LONG = os.environ.get("PERIGEE_SDKS") == "all"
SHORT = {"segment-python", "segment-node"}


def commands():
    python, node = (
        [sys.executable, "-m", "tests.sdks.python.calls"],
        [shutil.which("node") or "node"],
    )
    return {
        "segment-python": [*python, "segment.analytics.client"],
        "rudder-python": [*python, "rudderstack.analytics.client"],
        "segment-node": [*node, str(NODE / "segment.mjs")],
        "rudder-node": [*node, str(NODE / "rudder.mjs")],
        "jitsu-node": [*node, str(NODE / "jitsu.mjs")],
        "segment-go": [str(BUILT / "segment-go")],
        "segment-java": [
            "java",
            "-cp",
            f"{BUILT / 'java'}/*:{BUILT / 'java' / 'classes'}",
            "Calls",
        ],
    }


async def run(command, environment):
    process = await asyncio.create_subprocess_exec(
        *command, cwd=PROJECT, env={**os.environ, **environment},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await asyncio.wait_for(process.communicate(), 180)
    assert process.returncode == 0, said.decode()[-2_000:]
    return said.decode()


@pytest.mark.parametrize("name", [name for name in commands() if LONG or name in SHORT])
async def test_every_call_is_there_once_whatever_the_road_did(door, name):
    key = await door.create_source(name)
    road = Road(door.ingest_url, mean=name not in ONCE)
    try:
        said = await run(commands()[name], {"PERIGEE_HOST": road.url, "PERIGEE_KEY": key})
    finally:
        road.close()
    if name not in ONCE:
        assert (road.lost, road.twice, road.limited) == (1, 1, 1), (
            road.lost,
            road.twice,
            road.limited,
            said,
        )
    found = await sent_by(name, door.servers)
    check(found, lacks=LACKS.get(name, frozenset()))
