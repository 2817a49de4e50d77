"""HubSpot: events of an app's subscriptions, and objects as its API returns them.

Not yet run against the vendor. Source: HubSpot developer documentation, "Webhooks API" (events of
subscriptions: a list) and "CRM API" (an object with `properties` and `associations`, which a
workflow's action can post with its `objectType`). A subscription's event of a deal names no
contact, so it is refused: deals, calls and meetings come as objects.
"""

from typing import Any

from libs.common.errors import InvalidMessage
from services.ingest.adapters import (
    Adapter,
    Call,
    Settings,
    WebhookRequest,
    crm_calls,
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
    """Raise InvalidWebhookSignature unless HubSpot signed the request (v3)."""
    signatures.verify_hubspot(hook, secret, now)


def to_calls(event: Any, settings: Settings) -> list[Call]:
    """Return the calls of a subscription's event, or of an object."""
    if optional_text(event, "subscriptionType"):
        return [_property_change_call(event, settings)]
    kind = optional_text(event, "objectType").lower()
    if kind == "contact":
        return [_contact_call(event, settings)]
    if kind not in _OBJECTS:
        raise InvalidMessage(
            "unknown_event",
            f"objectType {kind!r:.60}: contact, {', '.join(_OBJECTS)}, or a subscription's event",
        )
    return _activity_calls(kind, event, settings)


def _property_change_call(event: Any, settings: Settings) -> Call:
    kind = event["subscriptionType"]
    if kind not in ("contact.propertyChange", "contact.creation"):
        raise InvalidMessage(
            "unknown_event",
            f"{kind!r:.60} names no contact: "
            "supported are contact.propertyChange and contact.creation",
        )
    name = optional_text(event, "propertyName")
    traits = {_TRAITS.get(name, name): event.get("propertyValue")} if name else {}
    author = (
        optional_text(event, "sourceId")
        if optional_text(event, "changeSource") == "INTEGRATION"
        else ""
    )
    change = crm_calls.CrmChange(
        "hubspot",
        # An eventId is not guaranteed to be unique, so property and instant are part of the id.
        f"{require_text(event, 'eventId')}:{kind}:{name}:{optional_text(event, 'occurredAt')}",
        format_seconds(_number(event, "occurredAt") / 1_000),
        is_echo=crm_calls.is_echo(settings, author, [name] if name else []),
    )
    return crm_calls.contact_call(change, require_text(event, "objectId"), traits)


def _contact_call(event: Any, settings: Settings) -> Call:
    at = require_text(event, "properties", "lastmodifieddate")
    traits = {
        _TRAITS.get(name, name): value
        for name, value in event["properties"].items()
        if value not in (None, "")
    }
    return crm_calls.contact_call(
        _object_change("contact", event, at, settings), optional_text(event, "id"), traits
    )


def _object_change(kind: str, event: Any, at: Any, settings: Settings) -> crm_calls.CrmChange:
    account_id = next(iter(_associated_ids(event, "companies")), "")
    is_echo = crm_calls.is_echo(
        settings, optional_text(event, "properties", "hs_updated_by_user_id")
    )
    return crm_calls.CrmChange(
        "hubspot", f"{kind}:{require_text(event, 'id')}:{at}", str(at), account_id, is_echo
    )


def _activity_calls(kind: str, event: Any, settings: Settings) -> list[Call]:
    fields = require(event, "properties")
    at = (
        optional_text(fields, "hs_lastmodifieddate")
        if kind == "deal"
        else optional_text(fields, "hs_timestamp")
    )
    if not at:
        raise InvalidMessage(
            "bad_event",
            f"a {kind} needs its {'hs_lastmodifieddate' if kind == 'deal' else 'hs_timestamp'}",
        )
    properties = {
        "deal": lambda: {
            "opportunity_id": require_text(event, "id"),
            "name": fields.get("dealname"),
            "value": fields.get("amount"),
            "currency": fields.get("deal_currency_code"),
            "close_date": fields.get("closedate"),
            "sales_stage": fields.get("dealstage"),
        },
        "call": lambda: {
            "subject": fields.get("hs_call_title"),
            "outcome": fields.get("hs_call_disposition"),
            "direction": fields.get("hs_call_direction"),
        },
        "meeting": lambda: {
            "subject": fields.get("hs_meeting_title"),
            "outcome": fields.get("hs_meeting_outcome"),
        },
    }[kind]()
    is_inbound = kind == "call" and optional_text(fields, "hs_call_direction") == "INBOUND"
    return crm_calls.activity_calls(
        _object_change(kind, event, at, settings),
        _OBJECTS[kind],
        _associated_ids(event, "contacts"),
        properties,
        initiative="contact" if is_inbound else "brand",
    )


def _associated_ids(event: Any, object_type: str) -> list[str]:
    """Return the distinct ids of the associated objects of a type, in their order."""
    associations = event.get("associations")
    association = associations.get(object_type) if isinstance(associations, dict) else None
    results = association.get("results") if isinstance(association, dict) else None
    if not isinstance(results, list):
        return []
    object_ids = (optional_text(result, "id") for result in results)
    return list(dict.fromkeys(object_id for object_id in object_ids if object_id))


def _number(event: Any, name: str) -> float:
    value = require(event, name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidMessage("bad_event", f"{name} is not a number")
    return value


ADAPTER = Adapter(to_calls, verify_signature=verify_signature)
