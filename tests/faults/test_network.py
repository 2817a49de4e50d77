"""A bad network between Perigee's services and its servers: nothing accepted is lost, nothing is done twice.

The short form suffers each kind once on a proxy of its own; the long form (`make test-faults`) each kind 20 times, through
toxiproxy. The seed is printed; PERIGEE_SEED repeats one.
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
SPELL = (0.5, 8.0) if LONG else (0.5, 1.5)
"""Seconds that a spell lasts."""
LINKS = ("kafka", "postgres")
pytestmark = pytest.mark.timeout(3_600 if LONG else 300)


class Distant(FullInstance):
    """An instance whose services, all of them, reach Kafka and PostgreSQL through the network."""

    def __init__(self, folder, network):
        self.network = network
        super().__init__(folder)

    def before_start(self):
        home = self.stack.home
        ports = home.read("ports")
        self.far = {name: self.network.link(name, ports[name]) for name in LINKS}
        home.write("ports", {**ports, "kafka-advertised": self.far["kafka"]})

    def options(self, **environment):
        near = self.stack.postgres.url()
        far = near.replace(
            f":{self.stack.home.read('ports')['postgres']}/", f":{self.far['postgres']}/"
        )
        super().options(
            DATABASE_URL=far,
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
    found = Distant(tmp_path, network)
    yield found
    found.down()
    network.close()


async def keep_sending(distant, key, over):
    while not over.is_set():
        await distant.send(key, distant.calls(20), size=10)
        await last(0.05)


async def test_every_kind_of_bad_network(distant):
    chance = random.Random(choose_seed())
    over = asyncio.Event()
    key = distant.environment["WRITE_KEY"]
    sending = asyncio.create_task(keep_sending(distant, key, over))
    spells = [(kind, (link,)) for kind in KINDS for link in LINKS] + [
        ("cut", LINKS),
        ("reset", LINKS),
    ]
    spells = (
        spells * TIMES
        if LONG
        else [(kind, (LINKS[n % 2],)) for n, kind in enumerate(KINDS)] + spells[-2:]
    )
    chance.shuffle(spells)
    for number, (kind, links) in enumerate(spells):
        report_progress(
            f"bad network: {number} of {len(spells)} spells, {distant.sent:,} touchpoints"
        )
        for link in links:
            await asyncio.to_thread(distant.network.inject, link, kind)
        await last(chance.uniform(*SPELL))
        for link in links:
            await asyncio.to_thread(distant.network.heal, link)
        await last(chance.uniform(0, 1))
        assert not sending.done(), sending
    over.set()
    await sending
    await distant.check()
    log = (distant.stack.home.folder / "logs" / "scoring.log").read_text()
    hurt = {
        event: log.count(f'"event": "{event}"')
        for event in ("batch_retried", "consumer_restarted", "job_waits")
    }
    print(f"{len(spells)} spells of bad network on {distant.sent} touchpoints; {hurt}")
    assert hurt["batch_retried"] + hurt["consumer_restarted"] > 0, (
        "the network hurt nobody: the run proves nothing"
    )
