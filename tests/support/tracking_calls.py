"""A plain tracking call, and the requests of a website and of a CRM that bring it."""

import msgspec

from libs.common.ids import WorkspaceId
from services.ingest.domain.channel_rules import parse_channel_rules
from services.ingest.domain.request_context import NormalisationRules, RequestContext
from services.ingest.domain.source import Source
from services.ingest.settings import CHANNELS

NOW = 1_780_000_000_000_000
RULES = NormalisationRules(
    parse_channel_rules(CHANNELS.read_text(), "channels.yaml"), ip="truncate"
)
WEB = RequestContext(
    Source(WorkspaceId("default"), "web"),
    NOW,
    lambda: "made-up",
    "track",
    rules=RULES,
    client="203.0.113.9",
)
CRM = msgspec.structs.replace(
    WEB,
    source=Source(WorkspaceId("w"), "crm", trust="server", mode="historical"),
    trace=b"00-1-2-01",
)
PAGE = {
    "url": "https://shop.test/p?utm_source=mail&utm_medium=email",
    "referrer": "https://www.google.com/",
    "path": "/p",
}
PLAIN = {
    "type": "track",
    "event": "Añadido",
    "messageId": "m-1",
    "userId": "u-1",
    "anonymousId": "a-1",
    "timestamp": "2026-05-28T20:26:39.250Z",
    "properties": {
        "id": "p-1",
        "price": 19.9,
        "tags": ["a", {"b": None}],
        "total": 40,
        "currency": "eur",
        "said": 'a "b"\n',
    },
    "context": {
        "page": PAGE,
        "locale": "es",
        "userAgent": "Mozilla/5.0 Chrome/130",
        "ip": "198.51.100.7",
    },
    "integrations": {"All": True},
}
