"""What is known about a call before its content is looked at: who sent it, when it came, by which rules it is read."""

from collections.abc import Callable

import msgspec

from services.ingest.domain.channel_rules import NO_RULES, ChannelRules
from services.ingest.domain.privacy import IpRule
from services.ingest.domain.source import Source


class NormalisationRules(msgspec.Struct, frozen=True):
    """What a deployment sets for all its sources.

    `channels` are the lists that touchpoints are read by, `ip` says what is kept of addresses, and `link_keys` sign the links
    that say for whom they were made (the first mints, each is believed).
    """

    channels: ChannelRules = NO_RULES
    ip: IpRule = "drop"
    link_keys: tuple[str, ...] = ()


class BatchDefaults(msgspec.Struct, frozen=True):
    """What a batch says for all its messages: when it was sent, and a context as JSON (empty: none), clean."""

    sent_at: str | None = None
    context: bytes = b""


class RequestContext(msgspec.Struct, frozen=True):
    """A request, as all its messages share it. `new_id` makes up the id of a message that has none; `client` is an address."""

    source: Source
    received_at: int
    new_id: Callable[[], str]
    call_type: str | None = None
    batch_defaults: BatchDefaults = BatchDefaults()
    rules: NormalisationRules = NormalisationRules()
    client: str = ""
    adapter: str = ""
    """Whose shape it came in, if not our own."""
    trace: bytes | None = None
    """The W3C traceparent that its touchpoints carry on."""
