"""Salesforce: change events of Change Data Capture. Not yet run against the vendor.

Source: Salesforce documentation, "Change Data Capture Developer Guide":
`{payload: {ChangeEventHeader, fields …}, event}`. Salesforce does not post them to webhooks: a
relay subscribes and posts each event, or a list, here. There is no signature; the write key of a
server source authenticates them.
"""

from typing import Any

import msgspec

from libs.common.errors import InvalidMessage
from services.ingest.adapters import (
    Adapter,
    Call,
    Settings,
    crm_calls,
    format_seconds,
    optional_text,
    require,
    require_text,
    unknown_event,
)

_TRAITS = {
    "Email": "email",
    "Phone": "phone",
    "Title": "title",
    "FirstName": "firstName",
    "LastName": "lastName",
}
_CONTACT_ENTITIES = ("Contact", "Lead")
_ACTIVITIES = {"Task": "Call Logged", "Event": "Meeting Held"}
_ENTITIES = dict.fromkeys((*_CONTACT_ENTITIES, "Opportunity", *_ACTIVITIES))


def to_calls(event: Any, settings: Settings) -> list[Call]:
    """Return the calls of a change: one for each changed record."""
    fields, header = require(event, "payload"), require(event, "payload", "ChangeEventHeader")
    kind = require_text(header, "entityName")
    if kind not in _ENTITIES:
        raise unknown_event(kind, _ENTITIES)
    if optional_text(header, "changeType") in ("DELETE", "GAP_DELETE"):
        raise InvalidMessage(
            "unknown_event", f"a {kind} was deleted: erase the contact, or drop this event"
        )
    record_ids, committed_at = require(header, "recordIds"), require(header, "commitTimestamp")
    if (
        not isinstance(record_ids, list)
        or isinstance(committed_at, bool)
        or not isinstance(committed_at, int | float)
    ):
        raise InvalidMessage(
            "bad_event", "recordIds is not a list, or commitTimestamp is not a number"
        )
    at = format_seconds(committed_at / 1_000)
    is_echo = crm_calls.is_echo(
        settings,
        optional_text(header, "commitUser"),
        _changed_fields(header),
        optional_text(fields, "Description"),
    )
    transaction = optional_text(header, "transactionKey") or committed_at
    change_id = f"{transaction}:{optional_text(header, 'sequenceNumber')}"
    calls: list[Call] = []
    for record_id in record_ids:
        if not isinstance(record_id, str):
            continue
        # A contact's call has the record's id in its message id anyway.
        record_change_id = change_id if kind in _CONTACT_ENTITIES else f"{change_id}:{record_id}"
        change = crm_calls.CrmChange(
            "salesforce", record_change_id, at, optional_text(fields, "AccountId"), is_echo
        )
        calls += _record_calls(kind, fields, record_id, change)
    return calls


def _changed_fields(header: Any) -> list[str]:
    """Return the names of the changed fields, without those that every change has."""
    changed = header.get("changedFields")
    if not isinstance(changed, list):
        return []
    names = [name.removesuffix("__c") for name in changed if isinstance(name, str)]
    return [name for name in names if name not in ("LastModifiedDate", "LastModifiedById")]


def _record_calls(
    kind: str, fields: dict[str, Any], record_id: str, change: crm_calls.CrmChange
) -> list[Call]:
    if kind in _CONTACT_ENTITIES:
        # The parts of a compound name become traits of their own names.
        flat = {**fields, **(fields["Name"] if isinstance(fields.get("Name"), dict) else {})}
        traits = {_TRAITS.get(k, k): v for k, v in flat.items() if not isinstance(v, dict | list)}
        return [crm_calls.contact_call(change, record_id, traits)]
    if kind == "Opportunity":
        properties = {
            "opportunity_id": record_id,
            "name": fields.get("Name"),
            "value": fields.get("Amount"),
            "currency": fields.get("CurrencyIsoCode"),
            "close_date": fields.get("CloseDate"),
            "sales_stage": fields.get("StageName"),
        }
        contact_id = optional_text(fields, "ContactId")
        if not contact_id and not change.account_id:
            raise InvalidMessage(
                "bad_event", f"opportunity {record_id} names neither ContactId nor AccountId"
            )
        contact_ids = [contact_id] if contact_id else []
        return crm_calls.activity_calls(change, "Opportunity Changed", contact_ids, properties)
    if kind == "Task" and optional_text(fields, "TaskSubtype") not in ("", "Call"):
        raise InvalidMessage(
            "unknown_event",
            f"a task of the kind {optional_text(fields, 'TaskSubtype')!r:.40} is not a call",
        )
    properties = {
        "subject": fields.get("Subject"),
        "outcome": fields.get("CallDisposition") or fields.get("Status"),
    }
    initiative = "contact" if optional_text(fields, "CallType") == "Inbound" else "brand"
    activity = msgspec.structs.replace(
        change, occurred_at=optional_text(fields, "ActivityDateTime") or change.occurred_at
    )
    contact_ids = [require_text(fields, "WhoId")]
    return crm_calls.activity_calls(
        activity, _ACTIVITIES[kind], contact_ids, properties, initiative=initiative
    )


ADAPTER = Adapter(to_calls)
