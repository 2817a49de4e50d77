"""The fold inside Quix Streams: state in RocksDB with a changelog, 5,000 records a checkpoint.

python -m tests.benchmarks.peers.quix BROKER COUNT     prints {"rate": records a second}
"""

import json
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

import msgspec
from quixstreams import Application

from libs.common.messages import Touchpoint
from services.scoring.domain.fold import apply_event
from services.scoring.handlers.cycle_file_reader import read_cycles

(CYCLE,) = read_cycles(Path("cycles"))
ENGINE = CYCLE.engine
decode = msgspec.json.Decoder(Touchpoint).decode
clock = {"first": 0.0, "last": 0.0}


def fold(value: bytes, state: Any) -> None:
    """Fold one touchpoint into the state of its contact."""
    if not clock["first"]:
        clock["first"] = time.perf_counter()
    raw = state.get_bytes("fold")
    fold_state = ENGINE.decode_state(raw) if raw else ENGINE.initial_state()
    apply_event(ENGINE, fold_state, CYCLE.classifier.to_fold_event(decode(value)), [])
    state.set_bytes("fold", fold_state.encode())
    clock["last"] = time.perf_counter()


def main(broker: str, count: int) -> None:
    """Run until `count` records are folded."""
    with tempfile.TemporaryDirectory() as folder:
        app = Application(
            broker_address=broker, consumer_group=uuid.uuid4().hex, auto_offset_reset="earliest",
            state_dir=folder, commit_every=5_000, commit_interval=3_600, loglevel="ERROR",
        )  # fmt: skip
        topic = app.topic("touchpoints", key_deserializer="bytes", value_deserializer="bytes")
        app.dataframe(topic).update(fold, stateful=True)
        app.run(count=count)
    print(json.dumps({"rate": count / (clock["last"] - clock["first"])}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
