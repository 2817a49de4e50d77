"""Endless tests, interrupted by `tests/integration/test_interruption.py`."""

import os
import signal
from pathlib import Path

from tests.support.instance import run_ingest_only
from tests.support.server_host import MARK


def test_that_waits_beside_a_service(tmp_path, perigee_topics, database):
    with run_ingest_only(tmp_path, perigee_topics, database):
        _note("1")
        signal.pause()


def test_that_waits():
    _note("2")
    signal.pause()


def _note(name):
    (Path(os.environ["HANGING_NOTES"]) / name).write_text(os.environ[MARK])
