"""What a call's context says, by our own fields. Many calls say the same, so what was read once is kept.

What it may say depends on who says it: a browser's key is public, so only a server may say who acted, on which channel, and
which person an id in another system belongs to.
"""

from functools import lru_cache
from typing import Any, cast, get_args

import msgspec

from libs.common.link_tokens import REFERRAL_PARAMETER
from libs.common.messages.touchpoint import Evidence, Initiative, Mode
from services.ingest.domain import json_body
from services.ingest.domain.channel_rules import ChannelRules
from services.ingest.domain.enrichment import ContextFacts, enrich_context, page_query
from services.ingest.domain.field_values import (
    object_list,
    parse_identifier,
    parse_mapping,
    to_text,
)
from services.ingest.domain.tracking_call import parse_object

CACHE_SIZE = 4_096
MAX_CACHED_BYTES = 1_200
"""Of a context that is kept, in bytes: a browser's has about 500. Of many small parts it takes twenty times as much memory."""
MAX_EXTERNAL_IDS = 20
MAX_SYSTEM = 60
_INITIATIVES = get_args(Initiative)
# What becomes a field of its own, or is nobody's business downstream.
_LIFTED = frozenset((
    "consent", "campaign", "channel", "content", "traits", "mode", "initiative", "evidence", "ip", "userHash", "linkToken",
    "machine",
))  # fmt: skip
_MARK = f"{REFERRAL_PARAMETER}="


class ParsedContext(msgspec.Struct, frozen=True, gc=False):
    """What a context says. `rest` is what goes on as it is, `referral` a friend's code; `mode` is None where none is named.

    `rest` is JSON, an object: it is written once for all that say the same. What counts only where a call itself says nothing is
    left as it is.
    """

    rest: bytes
    facts: ContextFacts
    initiative: Initiative
    evidence: Evidence
    mode: Mode | None
    consent: dict[str, bool]
    external_ids: dict[str, str]
    traits: Any
    group_id: Any
    referral: str
    link_token: Any
    user_hash: Any
    ip: Any


def parse_context(channels: ChannelRules, server: bool, common: bytes, raw: bytes) -> ParsedContext:
    """Read a context, over what its batch says for all. Raises InvalidMessage for one that is no object, or has a wrong part."""
    return (_kept if len(common) + len(raw) <= MAX_CACHED_BYTES else _read)(
        channels, server, common, raw
    )


def _read(channels: ChannelRules, server: bool, common: bytes, raw: bytes) -> ParsedContext:
    said = {**(_of_batch(common) if common else {}), **parse_object("context", raw)}
    page = said.get("page")
    initiative, mode = said.get("initiative"), said.get("mode")
    return ParsedContext(
        rest=json_body.encode_json(
            said
            if _LIFTED.isdisjoint(said)
            else {k: v for k, v in said.items() if k not in _LIFTED}
        ),
        facts=enrich_context(channels, said, server=server),
        initiative=cast("Initiative", initiative)
        if server and initiative in _INITIATIVES
        else "contact",
        evidence="declared" if said.get("evidence") == "declared" else "observed",
        mode=mode if mode in ("historical", "test") else None,
        consent=_consent(said),
        external_ids=_external_ids(said) if server else {},
        traits=said.get("traits"),
        group_id=said.get("groupId"),
        referral=_referral(page) if isinstance(page, dict) else "",
        link_token=said.get("linkToken"),
        user_hash=said.get("userHash"),
        ip=said.get("ip"),
    )


_kept = lru_cache(CACHE_SIZE)(_read)


@lru_cache(maxsize=8)
def _of_batch(common: bytes) -> dict[str, Any]:
    """Return what a batch says for all: read once for all its messages, however long it is."""
    return parse_object("context", common)


def _external_ids(said: dict[str, Any]) -> dict[str, str]:
    """Return {system: id} of Segment's `context.externalIds`."""
    found: dict[str, str] = {}
    for one in object_list(said.get("externalIds"))[:MAX_EXTERNAL_IDS]:
        system = one.get("type")
        if isinstance(system, str) and 0 < len(system) <= MAX_SYSTEM:
            value = parse_identifier("id", one.get("id"))
            found |= {system: value} if value is not None else {}
    return found


def _consent(said: dict[str, Any]) -> dict[str, bool]:
    preferences = parse_mapping(
        "categoryPreferences",
        parse_mapping("consent", said.get("consent")).get("categoryPreferences"),
    )
    return {purpose: given for purpose, given in preferences.items() if isinstance(given, bool)}


def _referral(page: dict[str, Any]) -> str:
    """Return the code by which a friend sent the person to this page."""
    if not any(_MARK in to_text(page.get(name)) for name in ("search", "url")):
        return ""
    return page_query(page).get(REFERRAL_PARAMETER, "")
