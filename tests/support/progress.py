"""What whoever watches a long test sees: its seed, and how far it is."""

import os
import random
import sys
import time

LONG = os.environ.get("PERIGEE_FAULTS") == "long"
_WATCHED = LONG or "PERIGEE_SEEDS" in os.environ
EACH = 15.0
"""Seconds between two lines where there is no terminal whose line could be written over."""
_next = 0.0


def choose_seed() -> int:
    """Return PERIGEE_SEED or a new seed, and print it."""
    seed = int(os.environ.get("PERIGEE_SEED") or random.SystemRandom().randrange(1_000_000))
    print("seed", seed)
    return seed


def report_progress(said: str) -> None:
    """Say how far a test is; in long forms alone, since nobody waits for the short one."""
    global _next  # noqa: PLW0603
    if _WATCHED and sys.stderr.isatty():
        print(f"\r\x1b[K{said}", end="", file=sys.stderr, flush=True)
    elif _WATCHED and time.monotonic() >= _next:
        _next = time.monotonic() + EACH
        print(said, file=sys.stderr, flush=True)
