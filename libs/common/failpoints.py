"""Named places where a test makes the process die, to prove that nothing between two steps is lost or done twice.

`PERIGEE_FAILPOINT=name:n` kills the process with SIGKILL the n-th time the point is reached. Unset, a point costs one
comparison.
"""

import os
import signal

POINTS = (
    "before_commit",
    "after_commit",
    "after_fence",
    "before_publish",
    "after_publish",
    "after_reserve",
    "after_send",
)
_armed = ""
_left = 0


def arm(setting: str) -> None:
    """Arm the point that a setting `name:n` names; an empty setting arms none. Raises ValueError for an unknown name."""
    global _armed, _left
    name, _, count = setting.partition(":")
    if name and name not in POINTS:
        raise ValueError(f"unknown failpoint {name!r}: one of {', '.join(POINTS)}")
    _armed, _left = name, int(count or 1)


def reach(name: str) -> None:
    """Die here if this point is armed and its count is up."""
    global _left  # noqa: PLW0603
    if name == _armed:
        _left -= 1
        if _left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)
