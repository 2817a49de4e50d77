"""Named places where a test makes the process die or halt, to prove that nothing between two steps is lost or done twice.

`PERIGEE_FAILPOINT=name:n` kills the process with SIGKILL the n-th time the point is reached; `name:n:stop` halts it there
with SIGSTOP, once. Unset, a point costs one comparison.
"""

import os
import signal

POINTS = (
    "before_fence",
    "after_fence",
    "before_commit",
    "after_commit",
    "before_publish",
    "after_publish",
    "after_reserve",
    "after_send",
)
_armed = ""
_left = 0
_sign = signal.SIGKILL


def arm(setting: str) -> None:
    """Arm the point that a setting `name:n` or `name:n:stop` names; an empty setting arms none.

    Raises ValueError for an unknown name.
    """
    global _armed, _left, _sign
    name, _, rest = setting.partition(":")
    count, _, how = rest.partition(":")
    if name and name not in POINTS:
        raise ValueError(f"unknown failpoint {name!r}: one of {', '.join(POINTS)}")
    _armed, _left, _sign = name, int(count or 1), signal.SIGSTOP if how == "stop" else signal.SIGKILL


def reach(name: str) -> None:
    """Die or halt here if this point is armed and its count is up."""
    global _left  # noqa: PLW0603
    if name == _armed:
        _left -= 1
        if _left == 0:
            os.kill(os.getpid(), _sign)
