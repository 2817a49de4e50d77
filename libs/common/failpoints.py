"""Named points where a test kills, stops or fails the process.

Tests prove with them that nothing between two steps is lost or done twice.
`PERIGEE_FAILPOINT=name:n` kills the process with SIGKILL the n-th time the point is reached;
`name:n:stop` stops it there with SIGSTOP, once; `name:n:raise` raises RuntimeError every n-th time.
Unset, a point costs one comparison.
"""

import os
import signal

POINTS = (
    "in_fold",
    "before_fence",
    "after_fence",
    "before_commit",
    "after_commit",
    "before_publish",
    "after_publish",
    "after_reserve",
    "after_send",
    "after_webhooks",
)


class _Armed:
    """The armed point and its effect; no point is armed while `name` is empty."""

    name = ""
    every = 1
    remaining = 1
    sign: signal.Signals | None = None


_armed = _Armed()


def arm(setting: str) -> None:
    """Arm the point of a setting `name:n`, `name:n:stop` or `name:n:raise`.

    An empty setting arms no point. Raises ValueError for an unknown name.
    """
    name, _, options = setting.partition(":")
    count, _, effect = options.partition(":")
    if name and name not in POINTS:
        raise ValueError(f"unknown failpoint {name!r}: expected {', '.join(POINTS)}")
    _armed.name = name
    _armed.every = _armed.remaining = int(count or 1)
    _armed.sign = {"stop": signal.SIGSTOP, "raise": None}.get(effect, signal.SIGKILL)


def hit(name: str) -> None:
    """Kill, stop or raise here if this point is armed and its count is reached."""
    if name == _armed.name:
        _armed.remaining -= 1
        if _armed.remaining == 0 and _armed.sign is not None:
            os.kill(os.getpid(), _armed.sign)
        elif _armed.remaining == 0:
            _armed.remaining = _armed.every
            raise RuntimeError(f"failpoint {name}")
