"""A receiver that is killed again and again."""

import asyncio
import contextlib
import json
import random
import socket
import sys

from standardwebhooks.webhooks import Webhook

from cli.home import PROJECT
from libs.common.instants import DAY
from tests.integration.webhooks.harness import Bench, FastClock, in_order
from tests.support.progress import LONG, choose_seed, report_progress
from tests.support.waiting import last, wait_until

KILLS = 20 if LONG else 2


def fixed_port():
    """A port that no connection is given by chance while nobody listens there."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as tried, contextlib.suppress(OSError):
            tried.bind(("127.0.0.1", port))
            return port


async def started(port, file):
    """A receiver that listens."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.support.webhook_receiver", str(port), str(file), cwd=PROJECT
    )

    async def listens():
        assert process.returncode is None, "the receiver does not start"
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return True

    await wait_until(listens, what="the receiver")
    return process


async def kill_and_wait(bench, port, file, chance, sent, secrets):
    """Kill the receiver while it is sent to, again and again; return what it has once it has everything."""
    async with contextlib.AsyncExitStack() as stack:
        for turn in range(KILLS + 1):
            report_progress(f"the receiver killed {turn} of {KILLS} times")
            process = await started(port, file)
            stack.callback(end, process)
            if turn == KILLS:
                break
            for _ in range(4):
                sent += await bench.publish(*chance.choices("abcdefgh", k=6))
                await last(chance.random() * 0.2)
            if turn == KILLS // 2:
                secrets.append((await bench.desk.rotate_secret("default", "crm", DAY)).secret)
            sent += await bench.publish(*chance.choices("abcdefgh", k=20))
            await last(chance.random() * 0.05)
            end(process)
            await process.wait()

        def deliveries():
            return [json.loads(line) for line in file.read_text().splitlines()]

        def complete():
            return {one["headers"]["webhook-id"] for one in deliveries()} == set(sent)

        await wait_until(complete, 180, "a delivery of each change", every=0.3)
        return deliveries()


def end(process):
    if process.returncode is None:
        process.kill()


async def test_a_receiver_that_is_killed_gets_every_change_in_order(database, tmp_path):
    """The official libraries of Python and Node then verify every delivery, also those during a rotation."""
    chance = random.Random(choose_seed())
    # In the long form retries come five times as fast; more, and the libraries would take timestamps for ones of the future.
    bench = Bench(database, FastClock(5 if LONG else 1))
    port, file = fixed_port(), tmp_path / "deliveries.ndjson"
    first = (await bench.create(f"http://127.0.0.1:{port}/hook")).secret
    running = asyncio.create_task(bench.webhooks().run(bench.stop))
    sent, secrets = [], [first]
    try:
        seen = await kill_and_wait(bench, port, file, chance, sent, secrets)
    finally:
        bench.stop.set()
        await running
    await bench.close()
    found = in_order(json.loads(one["body"])["data"] for one in seen)
    assert found == {
        contact: list(range(1, count + 1)) for contact, count in bench.sequences.items()
    }
    bodies = {}
    for one in seen:
        assert bodies.setdefault(one["headers"]["webhook-id"], one["body"]) == one["body"]
        verified_by = [secret for secret in secrets if _verifies(secret, one)]
        assert verified_by
    (tmp_path / "secrets.json").write_text(json.dumps(secrets))
    node = await asyncio.create_subprocess_exec(
        "node", str(PROJECT / "tests" / "sdks" / "node" / "webhooks.mjs"), str(file), str(tmp_path / "secrets.json"),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await node.communicate()
    assert node.returncode == 0, said.decode()[-2_000:]
    assert json.loads(said)["verified"] == len(seen)
    print(f"{len(sent)} changes, {len(seen)} deliveries, {len(seen) - len(sent)} repeats")


def _verifies(secret, one):
    try:
        Webhook(secret).verify(one["body"], one["headers"])
    except Exception:
        return False
    return True
