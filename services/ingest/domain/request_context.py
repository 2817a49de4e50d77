"""Request context: source, receipt instant and rules that all messages of a request share."""

from collections.abc import Callable

import msgspec

from services.ingest.domain.channel_rules import NO_RULES, ChannelRules
from services.ingest.domain.privacy import IpRule
from services.ingest.domain.source import Source


class NormalisationRules(msgspec.Struct, frozen=True):
    """Rules of a deployment, for all its sources.

    `ip` is the rule for IP addresses. `link_keys` sign the link tokens: the first key signs new
    ones, all keys verify.
    """

    channels: ChannelRules = NO_RULES
    ip: IpRule = "drop"
    link_keys: tuple[str, ...] = ()


class BatchDefaults(msgspec.Struct, frozen=True):
    """Send time and context (clean JSON, or empty) that a batch gives all its messages."""

    sent_at: str | None = None
    context: bytes = b""


class RequestContext(msgspec.Struct, frozen=True):
    """A request without its messages.

    `new_id` returns the id of a message that has none; `client` is the client's IP address.
    """

    source: Source
    received_at: int
    new_id: Callable[[], str]
    call_type: str | None = None
    batch_defaults: BatchDefaults = BatchDefaults()
    rules: NormalisationRules = NormalisationRules()
    client: str = ""
    adapter: str = ""
    """The adapter that converted the messages; empty for tracking calls."""
    trace: bytes | None = None
    """The W3C traceparent for its touchpoints."""
