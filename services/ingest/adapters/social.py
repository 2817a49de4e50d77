"""Social interactions, in Perigee's own format for any listening tool.

{"network": "linkedin", "interaction": "comment", "id": "c-77", "at": "2026-05-28T09:00:00Z",
"actor": {"id": "p-1", "handle": "ada"}, "object": {"id": "post-9", "url": "…"}, "text": "…",
"sentiment": 0.4}
"""

from typing import Any

from services.ingest.adapters import (
    Adapter,
    Call,
    Settings,
    optional_text,
    require_text,
    unknown_event,
)

_EVENTS = {
    "follow": "Profile Followed",
    "like": "Post Liked",
    "comment": "Post Commented",
    "share": "Post Shared",
    "mention": "Brand Mentioned",
}


def to_calls(event: Any, _settings: Settings) -> list[Call]:
    """Return the interaction's call; the contact is identified by the network's own id."""
    kind, network = require_text(event, "interaction"), require_text(event, "network")
    if kind not in _EVENTS:
        raise unknown_event(kind, _EVENTS)
    properties = {
        "network": network,
        "text": optional_text(event, "text"),
        "url": optional_text(event, "object", "url"),
    }
    if "sentiment" in event:
        properties["sentiment"] = event["sentiment"]
    traits = {
        name: text for name in ("handle", "name") if (text := optional_text(event, "actor", name))
    }
    return [
        {
            "type": "track",
            "event": _EVENTS[kind],
            "messageId": f"{network}:{require_text(event, 'id')}",
            "timestamp": require_text(event, "at"),
            "properties": {name: value for name, value in properties.items() if value != ""},
            "context": {
                "channel": "social",
                "externalIds": [{"type": network, "id": require_text(event, "actor", "id")}],
                "content": {"id": optional_text(event, "object", "id"), "type": "post"},
                "traits": traits,
            },
        }
    ]


ADAPTER = Adapter(to_calls)
