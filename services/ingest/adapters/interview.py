"""Interviews: declared touchpoints of a contact, also about the past, beside the observed ones.

{"id": "i-7", "held_at": "2026-05-28T09:00:00Z", "interviewer": "kim",
"person": {"userId": "ada"} | {"email": "…"}, "answers": [{"event": "Product Viewed",
"about": "2026-01-05", "said": "…", "question": "…", "benefit": "…", "irritant": "…",
"sentiment": -0.5, "effort": 7}]}
"""

from typing import Any

from libs.common.errors import InvalidMessage
from services.ingest.adapters import Adapter, Call, Settings, optional_text, require, require_text

_ANSWER_FIELDS = ("question", "said", "benefit", "irritant", "sentiment", "effort")


def to_calls(event: Any, _settings: Settings) -> list[Call]:
    """Return a call for each answer, at the time that the answer is about, else the interview's."""
    interview_id, held_at = require_text(event, "id"), require_text(event, "held_at")
    answers = require(event, "answers")
    if not isinstance(answers, list):
        raise InvalidMessage("bad_event", "answers is not a list")
    user_id = optional_text(event, "person", "userId")
    address = optional_text(event, "person", "email")
    if not user_id and not address:
        raise InvalidMessage("bad_event", "an interview needs person.userId or person.email")
    calls = []
    for number, answer in enumerate(answers):
        properties = {
            name: answer[name]
            for name in _ANSWER_FIELDS
            if isinstance(answer, dict) and answer.get(name) not in (None, "")
        }
        context: dict[str, Any] = {"evidence": "declared", "channel": "interview"}
        if address:
            # An interviewee may give another contact's address, so beside a user id the address
            # does not identify the contact.
            context["traits"] = {"email": address} | ({} if user_id else {"email_verified": True})
        calls.append(
            {
                "type": "track",
                "event": optional_text(answer, "event") or "Interview Answered",
                "messageId": f"interview:{interview_id}:{number}",
                "userId": user_id or None,
                "timestamp": optional_text(answer, "about") or held_at,
                "properties": {
                    **properties,
                    "held_at": held_at,
                    "interviewer": optional_text(event, "interviewer"),
                },
                "context": context,
            }
        )
    return calls


ADAPTER = Adapter(to_calls)
