"""Tasks in a CRM, about a contact that it knows: after the vendors' public documentation, not yet run against the vendors.

HubSpot: `POST /crm/v3/objects/tasks` (CRM API v3), joined to the contact by association type 204. Salesforce:
`POST /services/data/v60.0/sobjects/Task` (REST API). Neither knows a task that it has made already, so what may have arrived is
not sent again.
"""

from collections.abc import Mapping
from typing import Any

from libs.common.clock import Clock
from libs.common.instants import to_iso
from services.orchestrator.channels.http_channels import encode_json, result_from_answer
from services.orchestrator.domain.rendered_message import DeliveryResult, RenderedMessage
from services.orchestrator.webhooks.http_client import WebhookClient

_PATHS = {"hubspot": "/crm/v3/objects/tasks", "salesforce": "/services/data/v60.0/sobjects/Task"}
_TASK_TO_CONTACT = {"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 204}


class CrmTaskChannel:
    """Makes a task about a contact."""

    idempotent = False

    def __init__(self, post: WebhookClient, clock: Clock) -> None:
        self._post = post
        self._clock = clock

    async def send(self, letter: RenderedMessage) -> DeliveryResult:
        """Post once."""
        crm = letter.data["crm"]
        known_as = letter.data["external_ids"].get(crm)
        if known_as is None:
            return DeliveryResult("refused", f"{crm} does not know the contact: it has no id there")
        now = to_iso(self._clock.now())
        task = (_hubspot if crm == "hubspot" else _salesforce)(letter, known_as, now)
        headers = [
            ("content-type", "application/json"),
            ("authorization", f"Bearer {letter.secret}"),
        ]
        answer = await self._post.post(
            letter.address.rstrip("/") + _PATHS[crm], headers, encode_json(task)
        )
        if answer.status is None and answer.reached:
            return DeliveryResult("unknown", answer.detail)
        # A token that is over is renewed by somebody: that refuses no task.
        again = (
            not answer.reached or answer.status in (401, 403, 429) or (answer.status or 0) >= 500
        )
        return result_from_answer(answer, again=again)

    async def close(self) -> None:
        """Nothing: the connections are the post's."""


def _subject(letter: RenderedMessage) -> str:
    fields: Mapping[str, str] = letter.data["fields"]
    return fields.get("subject") or letter.text.split("\n", 1)[0][:250]


def _marked(letter: RenderedMessage) -> str:
    """Return the text with the mark by which the door knows what we have written ourselves when the CRM tells of it."""
    return f"{letter.text}\n\n[perigee:{letter.action_id}]"


def _hubspot(letter: RenderedMessage, contact: str, now: str) -> dict[str, Any]:
    return {
        "properties": {
            "hs_timestamp": now,
            "hs_task_subject": _subject(letter),
            "hs_task_body": _marked(letter),
            "hs_task_status": "NOT_STARTED",
            "hs_task_type": "TODO",
        },
        "associations": [{"to": {"id": contact}, "types": [_TASK_TO_CONTACT]}],
    }


def _salesforce(letter: RenderedMessage, contact: str, now: str) -> dict[str, Any]:
    return {
        "Subject": _subject(letter),
        "Description": _marked(letter),
        "WhoId": contact,
        "Status": "Not Started",
        "ActivityDate": now[:10],
    }
