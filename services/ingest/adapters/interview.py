"""What people say when they are asked: it may be about the past, and is shown beside what was seen (row 34).

{"id": "i-7", "held_at": "2026-05-28T09:00:00Z", "interviewer": "kim", "person": {"userId": "ada"} | {"email": "…"},
"answers": [{"event": "Product Viewed", "about": "2026-01-05", "said": "…", "question": "…", "benefit": "…",
"irritant": "…", "sentiment": -0.5, "effort": 7}]}
"""

from typing import Any

from libs.common.errors import InvalidMessage
from services.ingest.adapters import Adapter, Call, Settings, optional_text, require, require_text

_KEPT = ("question", "said", "benefit", "irritant", "sentiment", "effort")


def to_calls(event: Any, _settings: Settings) -> list[Call]:
    """Return a call for each answer, dated when it was about, or when it was given."""
    number, held = require_text(event, "id"), require_text(event, "held_at")
    answers = require(event, "answers")
    if not isinstance(answers, list):
        raise InvalidMessage("bad_event", "answers is no list")
    user, address = (
        optional_text(event, "person", "userId"),
        optional_text(event, "person", "email"),
    )
    if not user and not address:
        raise InvalidMessage("bad_event", "an interview needs person.userId or person.email")
    found = []
    for place, answer in enumerate(answers):
        properties = {
            name: answer[name]
            for name in _KEPT
            if isinstance(answer, dict) and answer.get(name) not in (None, "")
        }
        context: dict[str, Any] = {"evidence": "declared", "channel": "interview"}
        if address:  # who is asked may give somebody else's address: it names the person only where nothing else does
            context["traits"] = {"email": address} | ({} if user else {"email_verified": True})
        found.append(
            {
                "type": "track",
                "event": optional_text(answer, "event") or "Interview Answered",
                "messageId": f"interview:{number}:{place}",
                "userId": user or None,
                "timestamp": optional_text(answer, "about") or held,
                "properties": {
                    **properties,
                    "held_at": held,
                    "interviewer": optional_text(event, "interviewer"),
                },
                "context": context,
            }
        )
    return found


ADAPTER = Adapter(to_calls)
