"""A bad network between services and servers loses nothing accepted and repeats no effect.

The short form injects each fault once by an asyncio proxy; the long form (`make test-faults`) each
fault 20 times by toxiproxy. The seed is printed; PERIGEE_SEED repeats a run.
"""

import asyncio
import random

import pytest

from cli.home import PROJECT
from tests.support.faulty_network import KINDS, AsyncioNetwork, ToxiproxyNetwork
from tests.support.full_instance import FullInstance
from tests.support.progress import LONG, choose_seed, report_progress
from tests.support.waiting import last

TIMES = 20 if LONG else 1
FAULT_SECONDS = (0.5, 8.0) if LONG else (0.5, 1.5)
"""Least and most seconds that a fault lasts."""
LINKS = ("kafka", "postgres")
pytestmark = pytest.mark.timeout(3_600 if LONG else 300)


class DistantInstance(FullInstance):
    """Instance all services of which reach Kafka and PostgreSQL through the network."""

    def __init__(self, folder, network):
        self.network = network
        super().__init__(folder)

    def before_start(self):
        home = self.stack.home
        ports = home.read("ports")
        self.far = {name: self.network.link(name, ports[name]) for name in LINKS}
        home.write("ports", {**ports, "kafka-advertised": self.far["kafka"]})

    def options(self, **environment):
        direct_url = self.stack.postgres.url()
        proxied_url = direct_url.replace(
            f":{self.stack.home.read('ports')['postgres']}/", f":{self.far['postgres']}/"
        )
        super().options(
            DATABASE_URL=proxied_url,
            KAFKA_BOOTSTRAP_SERVERS=f"127.0.0.1:{self.far['kafka']}",
            **environment,
        )


@pytest.fixture
def distant(tmp_path):
    network = (
        ToxiproxyNetwork(PROJECT / ".perigee" / "toxiproxy" / "server")
        if LONG
        else AsyncioNetwork()
    )
    instance = DistantInstance(tmp_path, network)
    yield instance
    instance.down()
    network.close()


async def keep_sending(distant, key, stop):
    while not stop.is_set():
        await distant.send(key, distant.calls(20), size=10)
        await last(0.05)


async def test_network_faults_lose_no_touchpoint(distant):
    chance = random.Random(choose_seed())
    stop = asyncio.Event()
    key = distant.environment["WRITE_KEY"]
    sending = asyncio.create_task(keep_sending(distant, key, stop))
    faults = [(kind, (link,)) for kind in KINDS for link in LINKS] + [
        ("cut", LINKS),
        ("reset", LINKS),
    ]
    faults = (
        faults * TIMES
        if LONG
        else [(kind, (LINKS[n % 2],)) for n, kind in enumerate(KINDS)] + faults[-2:]
    )
    chance.shuffle(faults)
    for number, (kind, links) in enumerate(faults):
        report_progress(
            f"bad network: {number} of {len(faults)} faults, {distant.sent:,} touchpoints"
        )
        for link in links:
            await asyncio.to_thread(distant.network.inject, link, kind)
        await last(chance.uniform(*FAULT_SECONDS))
        for link in links:
            await asyncio.to_thread(distant.network.heal, link)
        await last(chance.uniform(0, 1))
        assert not sending.done(), sending
    stop.set()
    await sending
    await distant.check()
    log = (distant.stack.home.folder / "logs" / "scoring.log").read_text()
    reactions = {
        event: log.count(f'"event": "{event}"')
        for event in ("batch_retried", "consumer_restarted", "job_waits")
    }

    print(f"{len(faults)} network faults on {distant.sent} touchpoints; {reactions}")

    assert reactions["batch_retried"] + reactions["consumer_restarted"] > 0, (
        "no service noticed a fault: the run proves nothing"
    )
