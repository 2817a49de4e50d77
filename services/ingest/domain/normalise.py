"""From one tracking call, as SDKs send it, to one touchpoint."""

from typing import Any, cast, get_args

import msgspec

from libs.common import link_tokens
from libs.common.errors import InvalidMessage
from libs.common.messages import Touchpoint
from libs.common.messages.touchpoint import CallType, Initiative, Mode
from libs.common.user_hash import verify_user_hash
from services.ingest.domain.context import ParsedContext, parse_context
from services.ingest.domain.enrichment import extract_content, extract_valuation
from services.ingest.domain.field_values import parse_identifier, parse_mapping
from services.ingest.domain.privacy import normalise_traits, truncate_ip
from services.ingest.domain.request_context import RequestContext
from services.ingest.domain.source import Source
from services.ingest.domain.timestamps import resolve_event_time
from services.ingest.domain.tracking_call import TrackingCall, parse_object

CALL_TYPES = get_args(CallType)
_VISITS = ("page", "screen")
_NOBODY = link_tokens.LinkRecipient("")


def normalise(call: TrackingCall, received: RequestContext) -> Touchpoint:
    """Return the touchpoint of one call. Raises InvalidMessage with a short reason when it is none."""
    source, channels = received.source, received.rules.channels
    call_type = _call_type(call, received)
    context = parse_context(
        channels, source.trust == "server", received.batch_defaults.context, bytes(call.context)
    )
    user_id, anonymous_id = (
        parse_identifier("userId", call.user_id),
        parse_identifier("anonymousId", call.anonymous_id),
    )
    if user_id is not None and source.user_hash_secret is not None:
        _check_user_hash(call.user_hash or context.user_hash, user_id, source.user_hash_secret)
    proven = _NOBODY if context.link_token is None else _proven(context.link_token, received)
    user_id = user_id or proven.user_id
    traits = parse_object("traits", call.traits) or parse_mapping("traits", context.traits)
    verified_email = _verified_email(traits, source) or (
        proven.email if proven.user_id is None else None
    )
    group_id = _required("group", "groupId", call_type, call.group_id) or parse_identifier(
        "groupId", context.group_id
    )
    if user_id is None and anonymous_id is None and not context.external_ids and not verified_email:
        _check_scope(context.initiative, group_id, source)
    when = resolve_event_time(
        call.timestamp or call.original_timestamp,
        call.sent_at or received.batch_defaults.sent_at,
        received.received_at,
    )
    given = parse_object("properties", call.properties)
    properties = _properties(given, context, source)
    told, about = context.facts, extract_valuation(properties)
    content_id, content_type = extract_content(properties, told)
    return Touchpoint(
        workspace=source.workspace,
        source=source.name,
        message_id=parse_identifier("messageId", call.message_id) or received.new_id(),
        type=call_type,
        occurred_at=when.occurred_at,
        received_at=received.received_at,
        name=_name(call, call_type, given),
        user_id=user_id,
        anonymous_id=anonymous_id,
        previous_id=_required("alias", "previousId", call_type, call.previous_id),
        group_id=group_id,
        verified_email=verified_email,
        external_ids=context.external_ids,
        initiative=context.initiative,
        evidence=context.evidence,
        mode=_mode(context, source),
        is_bot=told.is_bot,
        trust=source.trust,
        channel=told.visit_channel if call_type in _VISITS else told.channel,
        sent_at=when.sent_at,
        original_timestamp=when.original if when.original != when.occurred_at else None,
        clock_corrected=when.corrected,
        consent=context.consent,
        campaign=told.campaign,
        traits=normalise_traits(traits),
        properties=properties,
        context=_context(context, received),
        classifier_version=channels.version,
        device_class=told.device_class,
        page_path=told.page_path,
        content_id=content_id,
        content_type=content_type,
        locale=told.locale,
        timezone=told.timezone,
        value=about.value,
        currency=about.currency,
        sentiment=about.sentiment,
        effort=about.effort,
    )


def _call_type(call: TrackingCall, received: RequestContext) -> CallType:
    kind = call.type or received.call_type
    if kind not in CALL_TYPES:
        raise InvalidMessage("unknown_type", f"type {kind!r:.40}: one of {', '.join(CALL_TYPES)}")
    return cast("CallType", kind)


def _required(needed_by: CallType, field: str, call_type: CallType, value: Any) -> str | None:
    found = parse_identifier(field, value)
    if found is None and call_type == needed_by:
        raise InvalidMessage("no_ids", f"{needed_by} needs a {field}")
    return found


def _check_user_hash(given: Any, user_id: str, secret: str) -> None:
    """Raise InvalidMessage unless the message proves its user id: HMAC-SHA256 of it, in hexadecimal, as `userHash`."""
    if not verify_user_hash(secret, user_id, given):
        raise InvalidMessage(
            "bad_user_hash",
            "this source wants userHash: HMAC-SHA256 of the userId under its secret",
        )


def _proven(token: Any, received: RequestContext) -> link_tokens.LinkRecipient:
    """Return for whom the link was made by which somebody came; a token that is none, or is too old, names nobody."""
    found = (
        link_tokens.verify_link_token(received.rules.link_keys, token, received.received_at)
        if isinstance(token, str)
        else None
    )
    return found if found is not None and found.workspace == received.source.workspace else _NOBODY


def _verified_email(traits: dict[str, Any], source: Source) -> str | None:
    """Return the address for which a server vouches (OpenID's `email_verified`), in lower case.

    Only an identify has traits of its own; other calls may have them in their context, as mail providers' do.
    """
    if (
        source.trust != "server"
        or traits.get("email_verified", traits.get("emailVerified")) is not True
    ):
        return None
    address = parse_identifier("email", traits.get("email"))
    return None if address is None else address.strip().lower()


def _check_scope(initiative: Initiative, group_id: str | None, source: Source) -> None:
    """Raise InvalidMessage for a message of nobody, unless a server tells what happened to a market or an account."""
    if source.trust != "server" or not (initiative == "market" or group_id):
        raise InvalidMessage(
            "no_ids", "a message needs a userId or an anonymousId (a server may give externalIds)"
        )


def _properties(given: dict[str, Any], context: ParsedContext, source: Source) -> dict[str, Any]:
    """Return the properties over what the source says for all, and the friend's code in the page's address."""
    if not source.defaults and not context.referral:
        return given
    referral = {"referral_code": context.referral} if context.referral else {}
    return {**source.defaults, **referral, **given}


def _name(call: TrackingCall, call_type: CallType, properties: dict[str, Any]) -> str:
    value = call.event if call_type == "track" else call.name
    if call_type == "track" and not (isinstance(value, str) and value):
        raise InvalidMessage("no_event", "track needs an event name")
    if not value and call_type in _VISITS:
        value = properties.get("name")  # where some libraries put it
    return value if isinstance(value, str) else ""


def _mode(context: ParsedContext, source: Source) -> Mode:
    return source.mode if source.mode != "live" else context.mode or "live"


def _context(context: ParsedContext, received: RequestContext) -> dict[str, Any]:
    """Return what goes on of a context, with a shortened address where it is kept.

    It is JSON already, written once for all that say the same; whoever reads the touchpoint's message has the object.
    """
    rest = context.rest
    address = "" if received.rules.ip == "drop" else _address(context.ip, received)
    if address:
        rest = b'{"ip":%b%b%b' % (
            msgspec.json.encode(address),
            b"," if rest != b"{}" else b"",
            rest[1:],
        )
    return {} if rest == b"{}" else cast("dict[str, Any]", msgspec.Raw(rest))


def _address(said: Any, received: RequestContext) -> str:
    """Return the shortened address: what the message says, else a browser's own; empty for none."""
    given = (
        said
        if isinstance(said, str)
        else received.client
        if received.source.trust == "public"
        else ""
    )
    return truncate_ip(given) or ""
