"""Tasks in a CRM about a contact that exists there.

Written after the vendors' public documentation, not yet run against the vendors. HubSpot: `POST
/crm/v3/objects/tasks` (CRM API v3), joined to the contact by association type 204. Salesforce:
`POST /services/data/v60.0/sobjects/Task` (REST API). Neither has idempotency keys, so a task that
may have arrived is not sent again.
"""

from collections.abc import Mapping
from typing import Any

from libs.common.clock import Clock
from libs.common.ids import ContactId
from libs.common.instants import to_iso
from services.orchestrator.channels.http_channels import encode_json, result_from_answer
from services.orchestrator.domain.rendered_message import DeliveryResult, RenderedMessage
from services.orchestrator.webhooks.http_client import WebhookClient

_PATHS = {"hubspot": "/crm/v3/objects/tasks", "salesforce": "/services/data/v60.0/sobjects/Task"}
_TASK_TO_CONTACT = {"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 204}


class CrmTaskChannel:
    """Channel that creates a task about a contact in a CRM."""

    idempotent = False

    def __init__(self, client: WebhookClient, clock: Clock) -> None:
        self._client = client
        self._clock = clock

    async def send(self, message: RenderedMessage) -> DeliveryResult:
        """Create the task with one request."""
        crm = message.data["crm"]
        crm_contact_id = message.data["external_ids"].get(crm)
        if crm_contact_id is None:
            return DeliveryResult("refused", f"{crm} does not know the contact: it has no id there")
        now = to_iso(self._clock.now())
        task = (_hubspot if crm == "hubspot" else _salesforce)(message, crm_contact_id, now)
        headers = [
            ("content-type", "application/json"),
            ("authorization", f"Bearer {message.secret}"),
        ]
        answer = await self._client.post(
            message.address.rstrip("/") + _PATHS[crm], headers, encode_json(task)
        )
        if answer.status is None and answer.reached:
            return DeliveryResult("unknown", answer.detail)
        # An operator renews an expired token, so 401 and 403 do not refuse the task.
        again = (
            not answer.reached or answer.status in (401, 403, 429) or (answer.status or 0) >= 500
        )
        return result_from_answer(answer, again=again)

    async def close(self) -> None:
        """Do nothing: the webhook client owns the connections."""


def _subject(message: RenderedMessage) -> str:
    fields: Mapping[str, str] = message.data["fields"]
    return fields.get("subject") or message.text.split("\n", 1)[0][:250]


def _body_with_action_id(message: RenderedMessage) -> str:
    """Return the text with the marker by which ingest recognises our own tasks in CRM events."""
    return f"{message.text}\n\n[perigee:{message.action_id}]"


def _hubspot(message: RenderedMessage, contact: ContactId, now: str) -> dict[str, Any]:
    return {
        "properties": {
            "hs_timestamp": now,
            "hs_task_subject": _subject(message),
            "hs_task_body": _body_with_action_id(message),
            "hs_task_status": "NOT_STARTED",
            "hs_task_type": "TODO",
        },
        "associations": [{"to": {"id": contact}, "types": [_TASK_TO_CONTACT]}],
    }


def _salesforce(message: RenderedMessage, contact: ContactId, now: str) -> dict[str, Any]:
    return {
        "Subject": _subject(message),
        "Description": _body_with_action_id(message),
        "WhoId": contact,
        "Status": "Not Started",
        "ActivityDate": now[:10],
    }
