"""Normalisation: from one tracking call, as SDKs send it, to one touchpoint."""

from typing import Any, cast, get_args

import msgspec

from libs.common import link_tokens
from libs.common.errors import InvalidMessage
from libs.common.ids import WorkspaceId
from libs.common.messages import Touchpoint
from libs.common.messages.touchpoint import CallType, Initiative
from libs.common.user_hash import verify_user_hash
from services.ingest.domain.context import ClientContext, PageContext, parse_context
from services.ingest.domain.enrichment import extract_content, extract_valuation
from services.ingest.domain.field_values import parse_identifier, parse_mapping
from services.ingest.domain.privacy import normalise_traits, truncate_ip
from services.ingest.domain.request_context import RequestContext
from services.ingest.domain.source import Source
from services.ingest.domain.timestamps import resolve_event_time
from services.ingest.domain.tracking_call import TrackingCall, parse_object

CALL_TYPES = get_args(CallType)
_VISITS = ("page", "screen")
_NO_RECIPIENT = link_tokens.LinkRecipient(WorkspaceId(""))


def normalise(call: TrackingCall, received: RequestContext) -> Touchpoint:
    """Return the touchpoint of a call. Raises InvalidMessage with a short reason."""
    source, rules = received.source, received.rules
    call_type = _call_type(call, received)
    client, page = parse_context(
        rules.channels,
        server=source.trust == "server",
        batch_context=received.batch_defaults.context,
        raw=bytes(call.context),
    )
    user_id = parse_identifier("userId", call.user_id)
    anonymous_id = parse_identifier("anonymousId", call.anonymous_id)
    if user_id is not None and source.user_hash_secret is not None:
        _check_user_hash(call.user_hash or client.user_hash, user_id, source.user_hash_secret)
    recipient = (
        _NO_RECIPIENT if client.link_token is None else _recipient(client.link_token, received)
    )
    user_id = user_id or recipient.user_id
    traits = parse_object("traits", call.traits) or parse_mapping("traits", client.traits)
    verified_email = _verified_email(traits, source) or (
        recipient.email if recipient.user_id is None else None
    )
    group_id = _required("group", "groupId", call_type, call.group_id) or parse_identifier(
        "groupId", client.group_id
    )
    if user_id is None and anonymous_id is None and not client.external_ids and not verified_email:
        _check_scope(client.initiative, group_id, source)
    time = resolve_event_time(
        call.timestamp or call.original_timestamp,
        call.sent_at or received.batch_defaults.sent_at,
        received.received_at,
    )
    own_properties = parse_object("properties", call.properties)
    properties = _properties(own_properties, page.referral, source)
    valuation = extract_valuation(properties)
    content_id, content_type = extract_content(properties, page.facts)
    return Touchpoint(
        workspace=source.workspace,
        source=source.name,
        message_id=parse_identifier("messageId", call.message_id) or received.new_id(),
        type=call_type,
        occurred_at=time.occurred_at,
        received_at=received.received_at,
        name=event_name(call_type, call.event, call.name, own_properties),
        user_id=user_id,
        anonymous_id=anonymous_id,
        previous_id=_required("alias", "previousId", call_type, call.previous_id),
        group_id=group_id,
        verified_email=verified_email,
        external_ids=client.external_ids,
        initiative=client.initiative,
        evidence=client.evidence,
        mode=source.mode if source.mode != "live" else client.mode or "live",
        is_bot=client.facts.is_bot,
        trust=source.trust,
        channel=client.facts.channel
        or (page.facts.visit_channel if call_type in _VISITS else page.facts.channel),
        sent_at=time.sent_at,
        original_timestamp=time.original if time.original != time.occurred_at else None,
        clock_corrected=time.corrected,
        consent=client.consent,
        campaign=page.facts.campaign,
        traits=normalise_traits(traits),
        properties=properties,
        context=_context(client, page, received),
        classifier_version=rules.channels.version,
        device_class=client.facts.device_class,
        page_path=page.facts.page_path,
        content_id=content_id,
        content_type=content_type,
        locale=client.facts.locale,
        timezone=client.facts.timezone,
        value=valuation.value,
        currency=valuation.currency,
        sentiment=valuation.sentiment,
        effort=valuation.effort,
    )


def _call_type(call: TrackingCall, received: RequestContext) -> CallType:
    kind = call.type or received.call_type
    if kind not in CALL_TYPES:
        raise InvalidMessage("unknown_type", f"type {kind!r:.40}: one of {', '.join(CALL_TYPES)}")
    return cast("CallType", kind)


def _required(needed_by: CallType, field: str, call_type: CallType, value: Any) -> str | None:
    identifier = parse_identifier(field, value)
    if identifier is None and call_type == needed_by:
        raise InvalidMessage("no_ids", f"{needed_by} needs a {field}")
    return identifier


def _check_user_hash(given: Any, user_id: str, secret: str) -> None:
    """Raise InvalidMessage unless `given` is the hexadecimal HMAC-SHA256 of the user id."""
    if not verify_user_hash(secret, user_id, given):
        raise InvalidMessage(
            "bad_user_hash",
            "this source wants userHash: HMAC-SHA256 of the userId under its secret",
        )


def _recipient(token: Any, received: RequestContext) -> link_tokens.LinkRecipient:
    """Return the contact of a link token; an invalid or expired token names no contact."""
    recipient = (
        link_tokens.verify_link_token(received.rules.link_keys, token, received.received_at)
        if isinstance(token, str)
        else None
    )
    if recipient is None or recipient.workspace != received.source.workspace:
        return _NO_RECIPIENT
    return recipient


def _verified_email(traits: dict[str, Any], source: Source) -> str | None:
    """Return the address that a server vouches for (OpenID's `email_verified`), in lower case.

    Only an identify has its own traits; other calls may have them in their context.
    """
    if (
        source.trust != "server"
        or traits.get("email_verified", traits.get("emailVerified")) is not True
    ):
        return None
    address = parse_identifier("email", traits.get("email"))
    return None if address is None else address.strip().lower()


def _check_scope(initiative: Initiative, group_id: str | None, source: Source) -> None:
    """Raise InvalidMessage for a message without a contact.

    A server may send messages about a market or an account.
    """
    if source.trust != "server" or not (initiative == "market" or group_id):
        raise InvalidMessage(
            "no_ids", "a message needs a userId or an anonymousId (a server may give externalIds)"
        )


def _properties(given: dict[str, Any], referral: str, source: Source) -> dict[str, Any]:
    """Return the properties over the page's referral code and the source's defaults."""
    if not source.defaults and not referral:
        return given
    from_page = {"referral_code": referral} if referral else {}
    return {**source.defaults, **from_page, **given}


def event_name(call_type: CallType, event: Any, name: Any, properties: dict[str, Any]) -> str:
    """Return the name of an event, page or screen. Raises InvalidMessage if a track has none."""
    if call_type == "track":
        if not (isinstance(event, str) and event):
            raise InvalidMessage("no_event", "track needs an event name")
        return event
    if not name and call_type in _VISITS:
        name = properties.get("name")  # some libraries put it there
    return name if isinstance(name, str) else ""


def _context(client: ClientContext, page: PageContext, received: RequestContext) -> Any:
    """Return the touchpoint's context, with a shortened address where the rules keep it.

    The value is JSON already, encoded when the parts were parsed; a reader of the message has the
    object.
    """
    members = [client.members, address_member(client.ip, received), page.members]
    present = b",".join([json for json in members if json])
    return msgspec.Raw(b"{%b}" % present) if present else {}


def address_member(context_ip: Any, received: RequestContext) -> bytes:
    """Return the member `ip` of a touchpoint's context as JSON; empty where no address is kept.

    The address is that of the context, else a browser's own.
    """
    if received.rules.ip == "drop":
        return b""
    browser = received.client if received.source.trust == "public" else ""
    address = truncate_ip(context_ip if isinstance(context_ip, str) else browser)
    return b'"ip":' + msgspec.json.encode(address) if address else b""
