"""Unfinished work and open problems of one service, as `/admin/v1/SERVICE/status` shows them."""

import msgspec


class WorkStatus(msgspec.Struct, frozen=True):
    """One look at a service: database counts of one snapshot, after the end offsets were read."""

    unfinished: list[str]
    """What is still to do, a line each; empty when the service is idle."""
    end_offsets: dict[str, int]
    """Sum of the end offsets of each consumed topic: unchanged while nothing new arrives."""
    problems: dict[str, int]
    """What waits for the operator, by kind; 0 where nothing does."""
