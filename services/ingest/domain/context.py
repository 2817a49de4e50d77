"""A call's context by our own fields, in two parts, each of which is parsed once and cached.

The client part (user agent, locale, library, consent …) is the same on all pages of a visit. The
page part (page, referrer, campaign, content) is the same for all visitors of a page. A cache of
whole contexts would need an entry for each combination of the two.

The trust of the source decides which fields count: a browser's key is public, so only a server may
name the initiative, the channel and the ids that a contact has in other systems.
"""

from functools import lru_cache
from typing import Any, cast, get_args

import msgspec

from libs.common.link_tokens import REFERRAL_PARAMETER
from libs.common.messages.touchpoint import Evidence, Initiative, Mode
from services.ingest.domain import json_body
from services.ingest.domain.channel_rules import ChannelRules
from services.ingest.domain.enrichment import (
    ClientFacts,
    PageFacts,
    enrich_client,
    enrich_page,
    page_query,
)
from services.ingest.domain.field_values import (
    object_list,
    object_or_empty,
    parse_identifier,
    parse_mapping,
    to_text,
)
from services.ingest.domain.tracking_call import parse_object

CACHE_SIZE = 4_096
"""Entries of each of the two caches; the least recently used one is evicted."""
MAX_CACHED_BYTES = 1_200
"""Size of a part that is cached, as JSON. Parsed, many small values take twenty times as much."""
MAX_EXTERNAL_IDS = 20
MAX_SYSTEM = 60
PAGE_MEMBERS = ("page", "referrer", "campaign", "content")
_INITIATIVES = get_args(Initiative)
# Members that become a field of the touchpoint, or that no subscriber may see.
_LIFTED = frozenset((
    "consent", "campaign", "channel", "content", "traits", "mode", "initiative", "evidence", "ip",
    "userHash", "linkToken", "machine",
))  # fmt: skip
_REFERRAL_QUERY = f"{REFERRAL_PARAMETER}="
_encode = msgspec.json.Encoder().encode
_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw] | None).decode


class ClientContext(msgspec.Struct, frozen=True, gc=False):
    """A context without its page. `mode` is None where the context names none.

    `members` are the members of the JSON object that the touchpoint gets as its context, without
    braces. `traits` to `ip` are unchecked: they count only where the call itself lacks them.
    """

    members: bytes
    facts: ClientFacts
    initiative: Initiative
    evidence: Evidence
    mode: Mode | None
    consent: dict[str, bool]
    external_ids: dict[str, str]
    traits: Any
    group_id: Any
    link_token: Any
    user_hash: Any
    ip: Any


class PageContext(msgspec.Struct, frozen=True, gc=False):
    """The page of a context; `referral` is the referral code in the page's address."""

    members: bytes
    facts: PageFacts
    referral: str


def parse_context(
    channels: ChannelRules, *, server: bool, batch_context: bytes, raw: bytes
) -> tuple[ClientContext, PageContext]:
    """Parse a context over its batch's context.

    Raises InvalidMessage for a context that is no object, or has a wrong part.
    """
    client_json, page_json = split_members(_members(raw))
    return (
        parse_client_context(channels, server, batch_context, client_json),
        parse_page(channels, batch_context, page_json),
    )


def _members(raw: bytes) -> dict[str, msgspec.Raw]:
    """Return the members of a context. Raises InvalidMessage for one that is no object."""
    try:
        return _decode_members(raw) or {}
    except json_body.DECODE_ERRORS:
        parsed = parse_object("context", raw)
        return {name: msgspec.Raw(json_body.encode_json(v)) for name, v in parsed.items()}


def split_members(members: dict[str, msgspec.Raw]) -> tuple[bytes, bytes]:
    """Return the client part and the page part of a context, each as a JSON object.

    `members` loses those of the page.
    """
    page = {name: members.pop(name) for name in PAGE_MEMBERS if name in members}
    return _encode(members), _encode(page)


def parse_client_context(
    channels: ChannelRules, server: bool, batch_context: bytes, client_json: bytes
) -> ClientContext:
    """Parse the client part. Raises InvalidMessage."""
    cached = len(batch_context) + len(client_json) <= MAX_CACHED_BYTES
    parse = _cached_client if cached else _parse_client
    return parse(channels, server, batch_context, client_json)


def parse_page(channels: ChannelRules, batch_context: bytes, page_json: bytes) -> PageContext:
    """Parse the page part. Raises InvalidMessage."""
    cached = len(batch_context) + len(page_json) <= MAX_CACHED_BYTES
    return (_cached_page if cached else _parse_page)(channels, batch_context, page_json)


def _parse_client(
    channels: ChannelRules, server: bool, batch_context: bytes, client_json: bytes
) -> ClientContext:
    client = {**_parse_batch_context(batch_context)[0], **parse_object("context", client_json)}
    initiative, mode = client.get("initiative"), client.get("mode")
    return ClientContext(
        members=_members_json(client),
        facts=enrich_client(channels, client, server=server),
        initiative=cast("Initiative", initiative)
        if server and initiative in _INITIATIVES
        else "contact",
        evidence="declared" if client.get("evidence") == "declared" else "observed",
        mode=mode if mode in ("historical", "test") else None,
        consent=_consent(client),
        external_ids=_external_ids(client) if server else {},
        traits=client.get("traits"),
        group_id=client.get("groupId"),
        link_token=client.get("linkToken"),
        user_hash=client.get("userHash"),
        ip=client.get("ip"),
    )


def _parse_page(channels: ChannelRules, batch_context: bytes, page_json: bytes) -> PageContext:
    context = {**_parse_batch_context(batch_context)[1], **parse_object("context", page_json)}
    return PageContext(
        members=_members_json(context),
        facts=enrich_page(channels, context),
        referral=_referral(object_or_empty(context.get("page"))),
    )


_cached_client = lru_cache(CACHE_SIZE)(_parse_client)
_cached_page = lru_cache(CACHE_SIZE)(_parse_page)


@lru_cache(maxsize=8)
def _parse_batch_context(batch_context: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the client part and the page part of a batch's context; it may be long."""
    client = parse_object("context", batch_context) if batch_context else {}
    page = {name: client.pop(name) for name in PAGE_MEMBERS if name in client}
    return client, page


def _members_json(context: dict[str, Any]) -> bytes:
    if not _LIFTED.isdisjoint(context):
        context = {name: value for name, value in context.items() if name not in _LIFTED}
    return json_body.encode_json(context)[1:-1]


def _external_ids(context: dict[str, Any]) -> dict[str, str]:
    """Return {system: id} of Segment's `context.externalIds`."""
    external_ids: dict[str, str] = {}
    for entry in object_list(context.get("externalIds"))[:MAX_EXTERNAL_IDS]:
        system = entry.get("type")
        if isinstance(system, str) and 0 < len(system) <= MAX_SYSTEM:
            identifier = parse_identifier("id", entry.get("id"))
            if identifier is not None:
                external_ids[system] = identifier
    return external_ids


def _consent(context: dict[str, Any]) -> dict[str, bool]:
    consent = parse_mapping("consent", context.get("consent"))
    preferences = parse_mapping("categoryPreferences", consent.get("categoryPreferences"))
    return {purpose: given for purpose, given in preferences.items() if isinstance(given, bool)}


def _referral(page: dict[str, Any]) -> str:
    """Return the referral code of the page's address, or an empty text."""
    if not any(_REFERRAL_QUERY in to_text(page.get(name)) for name in ("search", "url")):
        return ""
    return page_query(page).get(REFERRAL_PARAMETER, "")
