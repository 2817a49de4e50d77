"""The exceptions of Perigee, in one tree.

PerigeeError
├── ConfigurationError       invalid setting or configuration file
├── InvalidMessage           one message that cannot be accepted; its neighbours can
├── Unavailable              Kafka, PostgreSQL or another dependency does not answer: retry
├── NotFound                 no object has the requested name
├── Conflict                 the command does not fit the stored state
├── UnknownWriteKey          no source has the write key
├── InvalidWebhookSignature  the signature of a webhook request does not verify
├── WebhooksOnly             a source with a signing secret got an unsigned tracking call
├── OriginNotAllowed         the source does not accept requests from pages of this origin
├── RateLimitExceeded        the source exceeds its rate limit
├── FenceLost                another instance owns the partition now: roll back and seek again
├── OffsetGap                records were deleted before they were read: an operator must decide
└── TooManyDeadLetters       a run of dead letters: more likely a defect here than at the senders

`libs.common.http.status_codes` maps them to HTTP statuses.
"""


class PerigeeError(Exception):
    """The root; `str(error)` is the one line shown to a user."""


class ConfigurationError(PerigeeError):
    """An invalid setting or configuration file; the message names the position and the fix."""


class InvalidMessage(PerigeeError):  # noqa: N818
    """A message that cannot be accepted; `reason` is short and stable, fit for a metric label.

    >>> InvalidMessage("no_ids", "needs a userId or an anonymousId").reason
    'no_ids'
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class Unavailable(PerigeeError):  # noqa: N818
    """A dependency that does not answer; the same call may succeed later."""


class NotFound(PerigeeError):  # noqa: N818
    """No object has the requested name."""


class Conflict(PerigeeError):  # noqa: N818
    """A command that does not fit the stored state; the message describes the state and the fix."""


class UnknownWriteKey(PerigeeError):  # noqa: N818
    """No source has the write key."""

    def __init__(self, message: str = "no source has this write key") -> None:
        super().__init__(message)


class InvalidWebhookSignature(PerigeeError):  # noqa: N818
    """The signature of a webhook request is missing, expired or wrong."""


class WebhooksOnly(PerigeeError):  # noqa: N818
    """The source has a signing secret, so it accepts signed webhooks only."""

    def __init__(self) -> None:
        super().__init__(
            "this source takes signed events at /v1/hook only: use another source for calls"
        )


class OriginNotAllowed(PerigeeError):  # noqa: N818
    """The source does not accept requests from pages of this origin."""

    def __init__(
        self, message: str = "this source accepts nothing from pages of this origin"
    ) -> None:
        super().__init__(message)


class RateLimitExceeded(PerigeeError):  # noqa: N818
    """The source exceeds its rate limit; `seconds` is the wait before the next attempt."""

    def __init__(self, seconds: int) -> None:
        super().__init__(f"the source exceeds its rate limit: retry in {seconds} s")
        self.seconds = seconds


class FenceLost(PerigeeError):  # noqa: N818
    """The offset row has another value than expected: another instance committed the batch."""


class OffsetGap(PerigeeError):  # noqa: N818
    """The topic starts after the next offset to read: records were deleted unread."""


class TooManyDeadLetters(PerigeeError):  # noqa: N818
    """More consecutive dead letters than the senders can plausibly cause."""
