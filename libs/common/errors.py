"""The errors of Perigee. Each says what went wrong, where, and what cures it.

PerigeeError
├── ConfigurationError      a setting or a file of the user's is wrong
├── InvalidMessage          one message is bad; its neighbours are not
├── Unavailable             Kafka, PostgreSQL or another dependency does not answer: try again
├── NotFound                what was asked for by name does not exist
├── Conflict                what was asked for does not fit what is there
├── FenceLost               another instance owns the partition now: roll back and rejoin
├── OffsetGap                  the log no longer holds what comes next: an operator must decide
└── TooManyDeadLetters      a run of bad messages: more likely our fault than theirs
"""


class PerigeeError(Exception):
    """The root. `str(error)` is the one line shown to a person."""


class ConfigurationError(PerigeeError):
    """A setting or a configuration file is wrong; the message names the place and the cure."""


class InvalidMessage(PerigeeError):  # noqa: N818
    """A message cannot be accepted. `reason` is short and stable, fit for a metric label.

    >>> InvalidMessage("no_ids", "needs a userId or an anonymousId").reason
    'no_ids'
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class Unavailable(PerigeeError):  # noqa: N818
    """A dependency does not answer; the same call may succeed later."""


class NotFound(PerigeeError):  # noqa: N818
    """Nothing has the name that was given."""


class Conflict(PerigeeError):  # noqa: N818
    """The command does not fit what is stored; the message says what is there and what would fit."""


class FenceLost(PerigeeError):  # noqa: N818
    """The offset row is not where this consumer left it: another instance has committed the batch."""


class OffsetGap(PerigeeError):  # noqa: N818
    """The topic starts after the next offset wanted: records were deleted unread."""


class TooManyDeadLetters(PerigeeError):  # noqa: N818
    """More messages in a row were bad than can be the senders' fault."""
