"""Salesforce: change events as Change Data Capture shapes them. Not yet run against the vendor.

Source: Salesforce documentation, "Change Data Capture Developer Guide": `{payload: {ChangeEventHeader, fields …}, event}`.
Salesforce does not call webhooks with them by itself: a relay subscribes and posts each event, or a list, here. There is no
signature; the write key of a server source is what proves them.
"""

from typing import Any

import msgspec

from libs.common.errors import InvalidMessage
from services.ingest.adapters import (
    Adapter,
    Call,
    Settings,
    crm,
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
_PEOPLE = ("Contact", "Lead")
_ACTIVITIES = {"Task": "Call Logged", "Event": "Meeting Held"}
_KNOWN = dict.fromkeys((*_PEOPLE, "Opportunity", *_ACTIVITIES))


def to_calls(event: Any, settings: Settings) -> list[Call]:
    """Return the calls of a change: one for each record that it changed."""
    said, header = require(event, "payload"), require(event, "payload", "ChangeEventHeader")
    kind = require_text(header, "entityName")
    if kind not in _KNOWN:
        raise unknown_event(kind, _KNOWN)
    if optional_text(header, "changeType") in ("DELETE", "GAP_DELETE"):
        raise InvalidMessage(
            "unknown_event", f"a {kind} was deleted: erase the person, or leave it"
        )
    records, moment = require(header, "recordIds"), require(header, "commitTimestamp")
    if (
        not isinstance(records, list)
        or isinstance(moment, bool)
        or not isinstance(moment, int | float)
    ):
        raise InvalidMessage("bad_event", "recordIds is no list, or commitTimestamp no number")
    at = format_seconds(moment / 1_000)
    changed = header.get("changedFields")
    fields = (
        [name.removesuffix("__c") for name in changed if isinstance(name, str)]
        if isinstance(changed, list)
        else []
    )
    # What says when a record was changed, and by whom, comes along with every change.
    fields = [name for name in fields if name not in ("LastModifiedDate", "LastModifiedById")]
    echo = crm.is_echo(
        settings, optional_text(header, "commitUser"), fields, optional_text(said, "Description")
    )
    number = f"{optional_text(header, 'transactionKey') or moment}:{optional_text(header, 'sequenceNumber')}"
    found: list[Call] = []
    for record in (one for one in records if isinstance(one, str)):
        own = (
            number if kind in _PEOPLE else f"{number}:{record}"
        )  # a person's call says whose it is anyway
        found += _of(
            kind,
            said,
            record,
            crm.CrmChange("salesforce", own, at, optional_text(said, "AccountId"), echo),
        )
    return found


def _of(kind: str, said: dict[str, Any], record: str, change: crm.CrmChange) -> list[Call]:
    if kind in _PEOPLE:
        fields = {**said, **(said["Name"] if isinstance(said.get("Name"), dict) else {})}
        traits = {_TRAITS.get(k, k): v for k, v in fields.items() if not isinstance(v, dict | list)}
        return [crm.contact_call(change, record, traits)]
    if kind == "Opportunity":
        properties = {
            "opportunity_id": record, "name": said.get("Name"), "value": said.get("Amount"),
            "currency": said.get("CurrencyIsoCode"), "close_date": said.get("CloseDate"), "sales_stage": said.get("StageName"),
        }  # fmt: skip
        people = [optional_text(said, "ContactId")] if optional_text(said, "ContactId") else []
        if not people and not change.account_id:
            raise InvalidMessage(
                "bad_event", f"opportunity {record} names neither ContactId nor AccountId"
            )
        return crm.activity_calls(change, "Opportunity Changed", people, properties)
    if kind == "Task" and optional_text(said, "TaskSubtype") not in ("", "Call"):
        raise InvalidMessage(
            "unknown_event",
            f"a task of the kind {optional_text(said, 'TaskSubtype')!r:.40} is no call",
        )
    properties = {
        "subject": said.get("Subject"),
        "outcome": said.get("CallDisposition") or said.get("Status"),
    }
    initiative = "contact" if optional_text(said, "CallType") == "Inbound" else "brand"
    when = msgspec.structs.replace(
        change, occurred_at=optional_text(said, "ActivityDateTime") or change.occurred_at
    )
    return crm.activity_calls(
        when, _ACTIVITIES[kind], [require_text(said, "WhoId")], properties, initiative=initiative
    )


ADAPTER = Adapter(to_calls)
