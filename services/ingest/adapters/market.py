"""Market events: reputation, influencers, a competitor's price, a law.

They concern a market or an account, never a single contact.

{"id": "n-1", "kind": "reputation", "name": "Award Won", "at": "2026-05-28", "account": "acme",
"url": "…", "details": {…}}
"""

from typing import Any

from services.ingest.adapters import Adapter, Call, Settings, optional_text, require_text


def to_calls(event: Any, _settings: Settings) -> list[Call]:
    """Return the event's call, which has no contact."""
    details = event.get("details") if isinstance(event, dict) else None
    context = {"initiative": "market", "channel": optional_text(event, "channel")}
    if optional_text(event, "account"):
        context["groupId"] = optional_text(event, "account")
    return [
        {
            "type": "track",
            "event": require_text(event, "name"),
            "messageId": f"market:{require_text(event, 'id')}",
            "timestamp": require_text(event, "at"),
            "properties": {
                **(details if isinstance(details, dict) else {}),
                "kind": require_text(event, "kind"),
                "url": optional_text(event, "url"),
            },
            "context": context,
        }
    ]


ADAPTER = Adapter(to_calls)
