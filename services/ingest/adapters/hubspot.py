"""HubSpot: subscriptions of an app, and objects as its API returns them. Not yet run against the vendor.

Source: HubSpot developer documentation, "Webhooks API" (events of subscriptions: a list) and "CRM API" (an object with
`properties` and `associations`, which a workflow's action can post with its `objectType`). A subscription's event of a deal names
no person, so it is refused: deals, calls and meetings come as objects.
"""

from typing import Any

from libs.common.errors import InvalidMessage
from services.ingest.adapters import (
    Adapter,
    Call,
    Settings,
    WebhookRequest,
    crm,
    format_seconds,
    optional_text,
    require,
    require_text,
    signatures,
)

_TRAITS = {
    "firstname": "firstName",
    "lastname": "lastName",
    "jobtitle": "title",
    "mobilephone": "phone",
}
_OBJECTS = {"deal": "Opportunity Changed", "call": "Call Logged", "meeting": "Meeting Held"}


def verify_signature(hook: WebhookRequest, _document: Any, secret: str, now: int) -> None:
    """Raise InvalidWebhookSignature unless HubSpot signed it (v3)."""
    signatures.verify_hubspot(hook, secret, now)


def to_calls(event: Any, settings: Settings) -> list[Call]:
    """Return the calls of a subscription's event, or of an object."""
    if optional_text(event, "subscriptionType"):
        return [_change(event, settings)]
    kind = optional_text(event, "objectType").lower()
    if kind == "contact":
        return [_contact(event, settings)]
    if kind not in _OBJECTS:
        raise InvalidMessage(
            "unknown_event",
            f"objectType {kind!r:.60}: contact, {', '.join(_OBJECTS)}, or a subscription's event",
        )
    return _object(kind, event, settings)


def _change(event: Any, settings: Settings) -> Call:
    kind = event["subscriptionType"]
    if kind not in ("contact.propertyChange", "contact.creation"):
        raise InvalidMessage(
            "unknown_event",
            f"{kind!r:.60} names no person: known are contact.propertyChange and contact.creation",
        )
    name = optional_text(event, "propertyName")
    traits = {_TRAITS.get(name, name): event.get("propertyValue")} if name else {}
    author = (
        optional_text(event, "sourceId")
        if optional_text(event, "changeSource") == "INTEGRATION"
        else ""
    )
    change = crm.CrmChange(
        "hubspot",
        # An eventId is not promised to be unique, so what changed and when are part of the id.
        f"{require_text(event, 'eventId')}:{kind}:{name}:{optional_text(event, 'occurredAt')}",
        format_seconds(_number(event, "occurredAt") / 1_000),
        is_echo=crm.is_echo(settings, author, [name] if name else []),
    )
    return crm.contact_call(change, require_text(event, "objectId"), traits)


def _contact(event: Any, settings: Settings) -> Call:
    at = require_text(event, "properties", "lastmodifieddate")
    traits = {
        _TRAITS.get(name, name): value
        for name, value in event["properties"].items()
        if value not in (None, "")
    }
    return crm.contact_call(
        _changed("contact", event, at, settings), optional_text(event, "id"), traits
    )


def _changed(kind: str, event: Any, at: Any, settings: Settings) -> crm.CrmChange:
    account = next(iter(_associated(event, "companies")), "")
    echo = crm.is_echo(settings, optional_text(event, "properties", "hs_updated_by_user_id"))
    return crm.CrmChange(
        "hubspot", f"{kind}:{require_text(event, 'id')}:{at}", str(at), account, echo
    )


def _object(kind: str, event: Any, settings: Settings) -> list[Call]:
    said = require(event, "properties")
    at = (
        optional_text(said, "hs_lastmodifieddate")
        if kind == "deal"
        else optional_text(said, "hs_timestamp")
    )
    if not at:
        raise InvalidMessage(
            "bad_event",
            f"a {kind} needs its {'hs_lastmodifieddate' if kind == 'deal' else 'hs_timestamp'}",
        )
    properties = {
        "deal": lambda: {
            "opportunity_id": require_text(event, "id"), "name": said.get("dealname"), "value": said.get("amount"),
            "currency": said.get("deal_currency_code"), "close_date": said.get("closedate"), "sales_stage": said.get("dealstage"),
        },
        "call": lambda: {"subject": said.get("hs_call_title"), "outcome": said.get("hs_call_disposition"),
                         "direction": said.get("hs_call_direction")},
        "meeting": lambda: {"subject": said.get("hs_meeting_title"), "outcome": said.get("hs_meeting_outcome")},
    }[kind]()  # fmt: skip
    inbound = kind == "call" and optional_text(said, "hs_call_direction") == "INBOUND"
    initiative = "contact" if inbound else "brand"
    change, people = _changed(kind, event, at, settings), _associated(event, "contacts")
    return crm.activity_calls(change, _OBJECTS[kind], people, properties, initiative=initiative)


def _associated(event: Any, what: str) -> list[str]:
    associations = event.get("associations")
    found = associations.get(what) if isinstance(associations, dict) else None
    listed = found.get("results") if isinstance(found, dict) else None
    return (
        list(dict.fromkeys(optional_text(one, "id") for one in listed if optional_text(one, "id")))
        if isinstance(listed, list)
        else []
    )


def _number(event: Any, name: str) -> float:
    value = require(event, name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidMessage("bad_event", f"{name} is no number")
    return value


ADAPTER = Adapter(to_calls, verify_signature=verify_signature)
