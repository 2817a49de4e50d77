"""From one tracking call, as SDKs send it, to one touchpoint."""

from typing import Any, cast, get_args

import msgspec

from libs.common import links
from libs.common.errors import InvalidMessage
from libs.common.messages import Touchpoint
from libs.common.messages.touchpoint import CallType, Initiative
from libs.common.proofs import is_user_hash
from services.ingest.domain.classify import classify, referral
from services.ingest.domain.privacy import shortened, traits_of, without_tokens
from services.ingest.domain.received import Received
from services.ingest.domain.source import Source
from services.ingest.domain.timing import timing

MAX_ID = 512
MAX_EXTERNAL_IDS = 20
MAX_SYSTEM = 60
CALL_TYPES = get_args(CallType)
_INITIATIVES = get_args(Initiative)
# What becomes a field of its own, or is nobody's business downstream.
_LIFTED = frozenset((
    "consent", "campaign", "channel", "content", "traits", "mode", "initiative", "evidence", "ip", "userHash", "linkToken",
    "machine",
))  # fmt: skip
_NOBODY = links.Person("")


def normalise(message: Any, received: Received) -> Touchpoint:
    """Return the touchpoint of one call. Raises InvalidMessage with a short reason when it is none."""
    if not isinstance(message, dict):
        raise InvalidMessage("not_an_object", f"a message is a JSON object, not {type(message).__name__}")
    call_type = _call_type(message, received)
    source = received.source
    user_id, anonymous_id = _identifier(message, "userId"), _identifier(message, "anonymousId")
    if user_id is not None and source.user_hash_secret is not None:
        _check_user_hash(message, user_id, source.user_hash_secret)
    context = {**received.said.context, **_object(message, "context")}
    if isinstance(context.get("page"), dict):
        context["page"] = without_tokens(context["page"])
    proven = _proven(context, received) if "linkToken" in context else _NOBODY
    user_id = user_id or proven.user_id
    external_ids = _external_ids(context, source)
    verified_email = _verified_email(message, context, source) or (proven.email if proven.user_id is None else None)
    if user_id is None and anonymous_id is None and not external_ids and not verified_email:
        _check_scope(message, context, source)
    when = timing(message, received.said.sent_at, received.received_at)
    properties = {**source.defaults, **referral(context), **without_tokens(_object(message, "properties"))}
    told = classify(received.rules.channels, call_type, properties, context, server=source.trust == "server")
    return Touchpoint(
        workspace=source.workspace,
        source=source.name,
        message_id=_identifier(message, "messageId") or received.new_id(),
        type=call_type,
        occurred_at=when.occurred_at,
        received_at=received.received_at,
        name=_name(message, call_type),
        user_id=user_id,
        anonymous_id=anonymous_id,
        previous_id=_required(message, call_type, "alias", "previousId"),
        group_id=_required(message, call_type, "group", "groupId") or _identifier(context, "groupId"),
        verified_email=verified_email,
        external_ids=external_ids,
        initiative=_initiative(context, source),
        evidence="declared" if context.get("evidence") == "declared" else "observed",
        mode=_mode(context, source),
        trust=source.trust,
        sent_at=when.sent_at,
        original_timestamp=when.original if when.original != when.occurred_at else None,
        clock_corrected=when.corrected,
        consent=_consent(context),
        traits=traits_of(_object(message, "traits") or _object(context, "traits")),
        properties=properties,
        context={k: v for k, v in context.items() if k not in _LIFTED} | _ip(context, received),
        classifier_version=received.rules.channels.version,
        **msgspec.structs.asdict(told),
    )


def _call_type(message: dict[str, Any], received: Received) -> CallType:
    kind = message.get("type") or received.call_type
    if kind not in CALL_TYPES:
        raise InvalidMessage("unknown_type", f"type {kind!r:.40}: one of {', '.join(CALL_TYPES)}")
    return cast("CallType", kind)


def _identifier(message: dict[str, Any], field: str) -> str | None:
    """Return an id as text; null, "" and absence all mean that it was not given."""
    value = message.get(field)
    if value is None or value == "":
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise InvalidMessage("bad_id", f"{field} is a {type(value).__name__}: text is needed")
    if len(value) > MAX_ID:
        raise InvalidMessage("bad_id", f"{field} has {len(value)} characters: at most {MAX_ID}")
    return value


def _required(message: dict[str, Any], call_type: str, needed_by: str, field: str) -> str | None:
    value = _identifier(message, field)
    if call_type == needed_by and value is None:
        raise InvalidMessage("no_ids", f"{needed_by} needs a {field}")
    return value


def _check_user_hash(message: dict[str, Any], user_id: str, secret: str) -> None:
    """Raise InvalidMessage unless the message proves its user id: HMAC-SHA256 of it, in hexadecimal, as `userHash`."""
    given = message.get("userHash") or _object(message, "context").get("userHash")
    if not is_user_hash(secret, user_id, given):
        raise InvalidMessage("bad_user_hash", "this source wants userHash: HMAC-SHA256 of the userId under its secret")


def _proven(context: dict[str, Any], received: Received) -> links.Person:
    """Return for whom the link was made by which somebody came; a token that is none, or is too old, names nobody."""
    token = context["linkToken"]
    found = links.read(received.rules.link_keys, token, received.received_at) if isinstance(token, str) else None
    return found if found is not None and found.workspace == received.source.workspace else _NOBODY


def _verified_email(message: dict[str, Any], context: dict[str, Any], source: Source) -> str | None:
    """Return the address for which a server vouches (OpenID's `email_verified`), in lower case.

    Only an identify has traits of its own; other calls may have them in their context, as mail providers' do.
    """
    if source.trust != "server":
        return None
    traits = _object(message, "traits") or _object(context, "traits")
    if traits.get("email_verified", traits.get("emailVerified")) is not True:
        return None
    address = _identifier(traits, "email")
    return None if address is None else address.strip().lower()


def _check_scope(message: dict[str, Any], context: dict[str, Any], source: Source) -> None:
    """Raise InvalidMessage for a message of nobody, unless a server tells what happened to a market or an account."""
    of_market = (
        context.get("initiative") == "market" or _identifier(context, "groupId") or _identifier(message, "groupId")
    )
    if source.trust != "server" or not of_market:
        raise InvalidMessage("no_ids", "a message needs a userId or an anonymousId (a server may give externalIds)")


def _external_ids(context: dict[str, Any], source: Source) -> dict[str, str]:
    """Return {system: id} of Segment's `context.externalIds`, which only a server may say."""
    if source.trust != "server":
        return {}
    listed = context.get("externalIds")
    found = {}
    for one in listed[:MAX_EXTERNAL_IDS] if isinstance(listed, list) else ():
        if isinstance(one, dict) and isinstance(one.get("type"), str):
            value = _identifier(one, "id")
            if value is not None and 0 < len(one["type"]) <= MAX_SYSTEM:
                found[one["type"]] = value
    return found


def _name(message: dict[str, Any], call_type: str) -> str:
    value = message.get("event" if call_type == "track" else "name")
    if call_type == "track" and not (isinstance(value, str) and value):
        raise InvalidMessage("no_event", "track needs an event name")
    if not value and call_type in ("page", "screen"):
        value = _object(message, "properties").get("name")  # where some libraries put it
    return value if isinstance(value, str) else ""


def _object(holder: dict[str, Any], field: str) -> dict[str, Any]:
    value = holder.get(field)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidMessage("bad_shape", f"{field} is a {type(value).__name__}: an object is needed")
    return value


def _initiative(context: dict[str, Any], source: Source) -> Initiative:
    """A browser's key is public, so only a server may say that the brand or the market acted."""
    said = context.get("initiative")
    return cast("Initiative", said) if source.trust == "server" and said in _INITIATIVES else "contact"


def _mode(context: dict[str, Any], source: Source) -> Any:
    if source.mode != "live":
        return source.mode
    said = context.get("mode")
    return said if said in ("historical", "test") else "live"


def _ip(context: dict[str, Any], received: Received) -> dict[str, str]:
    """Return the shortened address, if such are kept: what the message says, else a browser's own."""
    if received.rules.ip == "drop":
        return {}
    said = context.get("ip")
    given = said if isinstance(said, str) else received.client if received.source.trust == "public" else ""
    short = shortened(given)
    return {"ip": short} if short else {}


def _consent(context: dict[str, Any]) -> dict[str, bool]:
    preferences = _object(_object(context, "consent"), "categoryPreferences")
    return {purpose: given for purpose, given in preferences.items() if isinstance(given, bool)}
