"""Webhook receiver that is killed repeatedly."""

import asyncio
import contextlib
import json
import random
import socket
import sys

from standardwebhooks.webhooks import Webhook

from cli.home import PROJECT
from libs.common.instants import DAY
from tests.integration.webhooks.harness import DeliveryHarness, FastClock, sequences_by_contact
from tests.support.progress import LONG, choose_seed, report_progress
from tests.support.waiting import last, wait_until

KILLS = 20 if LONG else 2


def fixed_port():
    """Return a port outside the ephemeral range, so that no connection takes it meanwhile."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as tried, contextlib.suppress(OSError):
            tried.bind(("127.0.0.1", port))
            return port


async def start_receiver(port, file):
    """Start a receiver and wait until it listens."""
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


async def kill_and_wait(harness, port, file, chance, sent, secrets):
    """Kill the receiver repeatedly under load; return its deliveries once each message has one."""
    async with contextlib.AsyncExitStack() as stack:
        for kills in range(KILLS + 1):
            report_progress(f"the receiver killed {kills} of {KILLS} times")
            process = await start_receiver(port, file)
            stack.callback(kill, process)
            if kills == KILLS:
                break
            for _ in range(4):
                sent += await harness.publish(*chance.choices("abcdefgh", k=6))
                await last(chance.random() * 0.2)
            if kills == KILLS // 2:
                secrets.append((await harness.service.rotate_secret("default", "crm", DAY)).secret)
            sent += await harness.publish(*chance.choices("abcdefgh", k=20))
            await last(chance.random() * 0.05)
            kill(process)
            await process.wait()

        def deliveries():
            return [json.loads(line) for line in file.read_text().splitlines()]

        def complete():
            return {delivery["headers"]["webhook-id"] for delivery in deliveries()} == set(sent)

        await wait_until(complete, 180, "a delivery of each change", every=0.3)
        return deliveries()


def kill(process):
    if process.returncode is None:
        process.kill()


async def test_killed_receiver_gets_every_change_in_order(database, tmp_path):
    """The Python and Node libraries verify every delivery, those during a rotation included."""
    chance = random.Random(choose_seed())
    # The long form retries five times as fast. A faster clock gives timestamps that the libraries
    # refuse as future.
    harness = DeliveryHarness(database, FastClock(5 if LONG else 1))
    port, file = fixed_port(), tmp_path / "deliveries.ndjson"
    first_secret = (await harness.create(f"http://127.0.0.1:{port}/hook")).secret
    running = asyncio.create_task(harness.webhooks().run(harness.stop))
    sent, secrets = [], [first_secret]
    try:
        deliveries = await kill_and_wait(harness, port, file, chance, sent, secrets)
    finally:
        harness.stop.set()
        await running
    await harness.close()

    sequences = sequences_by_contact(
        json.loads(delivery["body"])["data"] for delivery in deliveries
    )

    assert sequences == {
        contact: list(range(1, count + 1)) for contact, count in harness.sequences.items()
    }

    bodies = {}
    for delivery in deliveries:
        assert (
            bodies.setdefault(delivery["headers"]["webhook-id"], delivery["body"])
            == delivery["body"]
        )
        verified_by = [secret for secret in secrets if _verifies(secret, delivery)]
        assert verified_by
    (tmp_path / "secrets.json").write_text(json.dumps(secrets))
    node = await asyncio.create_subprocess_exec(
        "node", str(PROJECT / "tests" / "sdks" / "node" / "webhooks.mjs"), str(file),
        str(tmp_path / "secrets.json"), stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await node.communicate()

    assert node.returncode == 0, output.decode()[-2_000:]
    assert json.loads(output)["verified"] == len(deliveries)

    print(
        f"{len(sent)} changes, {len(deliveries)} deliveries, {len(deliveries) - len(sent)} repeats"
    )


def _verifies(secret, delivery):
    try:
        Webhook(secret).verify(delivery["body"], delivery["headers"])
    except Exception:
        return False
    return True
