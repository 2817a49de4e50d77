"""Apache Kafka from its Maven artefacts: one broker in KRaft mode under PERIGEE_HOME."""

import asyncio
import os
import shutil
import subprocess

from cli.home import PROJECT, Home
from cli.servers.managed_process import ManagedProcess, StartError
from libs.common.errors import PerigeeError
from libs.common.kafka.admin import get_cluster_id

_FOLDER = PROJECT / "deploy" / "kafka"
_LIBS = _FOLDER / "target" / "libs"

# With longer broker sessions a start after SIGKILL waits 9 s for the old session to lapse; with a
# longer minimum of group sessions a killed consumer's partitions stand still for 6 s.
_SETTINGS = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{advertised}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
log.dirs={data}
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=500
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
"""


class KafkaServer:
    """The embedded broker of a home."""

    name = "kafka"

    def __init__(self, home: Home) -> None:
        self.home = home
        self.process = ManagedProcess(home, self.name)
        self.data = home.folder / "kafka" / "data"

    @property
    def address(self) -> str:
        """Return the bootstrap server."""
        return f"127.0.0.1:{self.home.read('ports').get('kafka', 0)}"

    def start(self) -> None:
        """Fetch missing artefacts, format the log directory the first time, start the broker."""
        if self.process.pid is not None:
            return
        fetch_artefacts()  # its error names the missing one of Java and Maven
        port = self.home.allocate_port("kafka", running=False)
        controller = self.home.allocate_port("kafka-controller", running=False)
        self.data.mkdir(parents=True, exist_ok=True)
        settings = self.data.parent / "server.properties"
        # Behind a proxy, clients connect to the proxy's port.
        advertised = self.home.read("ports").get("kafka-advertised", port)
        settings.write_text(
            _SETTINGS.format(
                port=port, advertised=advertised, controller=controller, data=self.data
            )
        )
        if not (self.data / "meta.properties").exists():
            self._format(str(settings))
        self.process.start(_java("kafka.Kafka", str(settings)), dict(os.environ), self.data.parent)

    def _format(self, settings: str) -> None:
        identity = _run(_java("kafka.tools.StorageTool", "random-uuid")).splitlines()[-1].strip()
        self.home.store_environment(kafka_cluster=identity)
        _run(_java("kafka.tools.StorageTool", "format", "-t", identity, "-c", settings))

    def wait(self) -> None:
        """Wait until this broker answers: a foreign broker may have the port."""
        self.process.wait_ready(self.ready, 60)

    def ready(self) -> bool:
        """Return whether a broker with this home's cluster id answers."""
        if self.process.pid is None:
            return False
        try:
            return asyncio.run(get_cluster_id(self.address)) == self.home.read("options").get(
                "kafka_cluster"
            )
        except PerigeeError:
            return False

    def stop(self) -> None:
        """Stop the broker."""
        self.process.stop()


def fetch_artefacts() -> None:
    """Fetch Kafka's jars if they are missing.

    Raises StartError when Java or Maven is not installed.
    """
    outcome = subprocess.run(
        [str(_FOLDER / "fetch")], stderr=subprocess.PIPE, text=True, check=False
    )
    if outcome.returncode:
        raise StartError(outcome.stderr.strip())


def _java(*arguments: str) -> list[str]:
    java = shutil.which("java") or "java"
    options = [
        "-Xmx512m",
        "-Xms256m",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-XX:-UsePerfData",
    ]
    log = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
    return [java, *options, log, "-cp", f"{_LIBS}/*", *arguments]


def _run(command: list[str]) -> str:
    outcome = subprocess.run(command, capture_output=True, text=True, check=False)
    if outcome.returncode:
        raise StartError(f"Kafka's storage could not be formatted: {outcome.stderr.strip()[-800:]}")
    return outcome.stdout
