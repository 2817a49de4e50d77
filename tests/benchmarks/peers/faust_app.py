"""The fold inside Faust: state in a table with a changelog topic.

python -m tests.benchmarks.peers.faust_app BROKER COUNT     prints {"rate": records a second}
"""

import json
import os
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

import faust
import msgspec

from libs.common.messages import Touchpoint
from services.scoring.domain.fold import apply_event
from services.scoring.handlers.cycle_file_reader import read_cycles

(CYCLE,) = read_cycles(Path("cycles"))
ENGINE = CYCLE.engine
decode = msgspec.json.Decoder(Touchpoint).decode


def main(broker: str, count: int) -> None:
    """Run until `count` records are folded."""
    folder = tempfile.mkdtemp()
    app = faust.App(
        f"bench-{uuid.uuid4().hex}", broker=f"kafka://{broker}", store="memory://",
        topic_partitions=6, datadir=folder,
        topic_disable_leader=True, web_enabled=False, consumer_auto_offset_reset="earliest",
        key_serializer="raw", value_serializer="raw",
    )  # fmt: skip
    topic = app.topic("touchpoints", key_serializer="raw", value_serializer="raw", partitions=6)
    table = app.Table("states", key_type=bytes, value_type=bytes, partitions=6)
    clock = {"first": 0.0, "seen": 0}

    @app.agent(topic)  # type: ignore[untyped-decorator]
    async def fold(stream: Any) -> None:
        async for key, value in stream.items():
            clock["first"] = clock["first"] or time.perf_counter()
            raw = table.get(key)
            fold_state = ENGINE.decode_state(raw) if raw else ENGINE.initial_state()
            apply_event(ENGINE, fold_state, CYCLE.classifier.to_fold_event(decode(value)), [])
            table[key] = fold_state.encode()
            clock["seen"] += 1
            if clock["seen"] == count:
                # The worker takes sys.stdout for its log, and a stopping one takes its time.
                print(
                    json.dumps({"rate": count / (time.perf_counter() - clock["first"])}),
                    file=sys.__stdout__,
                    flush=True,
                )
                os._exit(0)

    faust.Worker(app, loglevel="ERROR").execute_from_commandline()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
