"""Published tracking libraries, as their registries serve them, send through a faulty proxy."""

import asyncio
import os
import shutil
import sys

import pytest

from cli.home import PROJECT
from tests.sdks.expected import LACKS, WITHOUT_RETRIES, check, sent_by
from tests.sdks.faulty_proxy import FaultyProxy

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
    output, _ = await asyncio.wait_for(process.communicate(), 180)
    assert process.returncode == 0, output.decode()[-2_000:]
    return output.decode()


@pytest.mark.parametrize("name", [name for name in commands() if LONG or name in SHORT])
async def test_call_through_faulty_proxy_is_stored_once(ingest, name):
    key = await ingest.create_source(name)
    proxy = FaultyProxy(ingest.ingest_url, faulty=name not in WITHOUT_RETRIES)
    try:
        output = await run(commands()[name], {"PERIGEE_HOST": proxy.url, "PERIGEE_KEY": key})
    finally:
        proxy.close()
    if name not in WITHOUT_RETRIES:
        assert (proxy.lost, proxy.twice, proxy.limited) == (1, 1, 1), (
            proxy.lost,
            proxy.twice,
            proxy.limited,
            output,
        )
    touchpoints = await sent_by(name, ingest.servers)
    check(touchpoints, lacks=LACKS.get(name, frozenset()))
