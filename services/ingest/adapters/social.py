"""Social interactions, in a shape of our own for whatever tool listens.

{"network": "linkedin", "interaction": "comment", "id": "c-77", "at": "2026-05-28T09:00:00Z",
"actor": {"id": "p-1", "handle": "ada"}, "object": {"id": "post-9", "url": "…"}, "text": "…", "sentiment": 0.4}
"""

from typing import Any

from services.ingest.adapters import Adapter, Call, Settings, need_text, text, unknown

_EVENTS = {
    "follow": "Profile Followed",
    "like": "Post Liked",
    "comment": "Post Commented",
    "share": "Post Shared",
    "mention": "Brand Mentioned",
}


def calls(event: Any, _settings: Settings) -> list[Call]:
    """Return the interaction's call; its person is known by the network's own id."""
    kind, network = need_text(event, "interaction"), need_text(event, "network")
    if kind not in _EVENTS:
        raise unknown(kind, _EVENTS)
    properties = {"network": network, "text": text(event, "text"), "url": text(event, "object", "url")}
    if "sentiment" in event:
        properties["sentiment"] = event["sentiment"]
    traits = {name: found for name in ("handle", "name") if (found := text(event, "actor", name))}
    return [
        {
            "type": "track",
            "event": _EVENTS[kind],
            "messageId": f"{network}:{need_text(event, 'id')}",
            "timestamp": need_text(event, "at"),
            "properties": {name: value for name, value in properties.items() if value != ""},
            "context": {
                "channel": "social",
                "externalIds": [{"type": network, "id": need_text(event, "actor", "id")}],
                "content": {"id": text(event, "object", "id"), "type": "post"},
                "traits": traits,
            },
        }
    ]


ADAPTER = Adapter(calls)
