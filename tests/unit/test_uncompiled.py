"""What is compiled says the same as its source: tests of it once more, on the sources alone."""

import os
import subprocess
import sys

from tests.support.source_copy import copy_sources

TESTS = [f"tests/unit/test_{name}.py" for name in ("fast_encoder", "record_batch", "accumulator")]


def test_uncompiled_it_says_the_same(tmp_path):
    copy_sources(tmp_path)

    outcome = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert outcome.returncode == 0, outcome.stdout
    assert " passed" in outcome.stdout
