"""Named places where a test makes the process die or halt, to prove that nothing between two steps is lost or done twice.

`PERIGEE_FAILPOINT=name:n` kills the process with SIGKILL the n-th time the point is reached; `name:n:stop` halts it there
with SIGSTOP, once; `name:n:raise` raises RuntimeError every n-th time. Unset, a point costs one comparison.
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
    """The point that is armed, and what happens there; no name, no point."""

    name = ""
    every = 1
    left = 1
    sign: signal.Signals | None = None


_armed = _Armed()


def arm(setting: str) -> None:
    """Arm the point that a setting `name:n`, `name:n:stop` or `name:n:raise` names; an empty setting arms none.

    Raises ValueError for an unknown name.
    """
    name, _, rest = setting.partition(":")
    count, _, how = rest.partition(":")
    if name and name not in POINTS:
        raise ValueError(f"unknown failpoint {name!r}: one of {', '.join(POINTS)}")
    _armed.name = name
    _armed.every = _armed.left = int(count or 1)
    _armed.sign = {"stop": signal.SIGSTOP, "raise": None}.get(how, signal.SIGKILL)


def hit(name: str) -> None:
    """Die, halt or raise here if this point is armed and its count is up."""
    if name == _armed.name:
        _armed.left -= 1
        if _armed.left == 0 and _armed.sign is not None:
            os.kill(os.getpid(), _armed.sign)
        elif _armed.left == 0:
            _armed.left = _armed.every
            raise RuntimeError(f"failpoint {name}")
