"""Seed and progress of a long test on the terminal."""

import os
import random
import sys
import time

LONG = os.environ.get("PERIGEE_FAULTS") == "long"
_WATCHED = LONG or "PERIGEE_SEEDS" in os.environ
REPORT_SECONDS = 15.0
"""Seconds between two lines where the output is no terminal."""
_next = 0.0


def choose_seed() -> int:
    """Return PERIGEE_SEED or a new seed, and print it."""
    seed = int(os.environ.get("PERIGEE_SEED") or random.SystemRandom().randrange(1_000_000))
    print("seed", seed)
    return seed


def report_progress(text: str) -> None:
    """Print the progress of a test, in long forms alone."""
    global _next  # noqa: PLW0603
    if _WATCHED and sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
    elif _WATCHED and time.monotonic() >= _next:
        _next = time.monotonic() + REPORT_SECONDS
        print(text, file=sys.stderr, flush=True)
