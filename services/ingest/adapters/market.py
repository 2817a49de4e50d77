"""What happens outside: reputation, influencers, a rival's price, a law. It concerns a market, or an account, and no one person.

{"id": "n-1", "kind": "reputation", "name": "Award Won", "at": "2026-05-28", "account": "acme", "url": "…", "details": {…}}
"""

from typing import Any

from services.ingest.adapters import Adapter, Call, Settings, need_text, text


def calls(event: Any, _settings: Settings) -> list[Call]:
    """Return the event's call, which has no person."""
    details = event.get("details") if isinstance(event, dict) else None
    context = {"initiative": "market", "channel": text(event, "channel")}
    if text(event, "account"):
        context["groupId"] = text(event, "account")
    return [
        {
            "type": "track",
            "event": need_text(event, "name"),
            "messageId": f"market:{need_text(event, 'id')}",
            "timestamp": need_text(event, "at"),
            "properties": {
                **(details if isinstance(details, dict) else {}),
                "kind": need_text(event, "kind"),
                "url": text(event, "url"),
            },
            "context": context,
        }
    ]


ADAPTER = Adapter(calls)
