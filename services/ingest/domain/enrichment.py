"""Enrichment: channel, campaign, device class, content, valuation and bot flag of a single message.

The channel is the first of: `context.channel` of a server, utm_medium, utm_source, a click id in
the page's address, the referrer's host, and `direct` for a visit without a referrer. A referrer of
the page's own host is a click inside the site and gives no channel. Absent values stay absent: no
value is not zero, no sentiment is not neutral.
"""

import re
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import msgspec

from libs.common.bounded_cache import cache_by_text
from services.ingest.domain.channel_rules import CACHED, ChannelRules
from services.ingest.domain.field_values import number_within, object_or_empty, to_number, to_text

_CURRENCY = re.compile(r"[A-Za-z]{3}")
_LONGEST = 200
_SHORT = 20
UTM = ("source", "medium", "name", "term", "content")


class ClientFacts(msgspec.Struct, frozen=True, gc=False):
    """Facts of a context without its page; empty where the context is silent.

    `channel` is the channel that a server names.
    """

    channel: str = ""
    is_bot: bool = False
    device_class: str = ""
    locale: str = ""
    timezone: str = ""


class PageFacts(msgspec.Struct, frozen=True, gc=False):
    """Facts of a page; empty where it is silent. `visit_channel` is a visit's channel."""

    channel: str = ""
    visit_channel: str = ""
    campaign: dict[str, str] = {}
    page_path: str = ""
    content_id: str = ""
    content_type: str = ""


class Valuation(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Value, currency, sentiment and effort of properties; empty or None where absent."""

    value: float | None = None
    currency: str = ""
    sentiment: float | None = None
    effort: float | None = None


NO_VALUATION = Valuation()
CONTENT_PROPERTIES = frozenset(("content", "content_id", "content_type"))
VALUATION_PROPERTIES = frozenset(("value", "revenue", "total", "currency", "sentiment", "effort"))


def enrich_client(channels: ChannelRules, context: dict[str, Any], *, server: bool) -> ClientFacts:
    """Return the facts of a context without its page. Unreadable parts yield no fact, no error."""
    agent = to_text(context.get("userAgent")).lower()
    named_channel = to_text(context.get("channel")).lower() if server else ""
    device_type = to_text(object_or_empty(context.get("device")).get("type")).lower()[:_SHORT]
    return ClientFacts(
        channel=named_channel if named_channel in channels.names else "",
        is_bot=context.get("machine") is True or (agent != "" and channels.is_machine(agent)),
        device_class=_device_class(device_type, agent),
        locale=to_text(context.get("locale")),
        timezone=to_text(context.get("timezone")),
    )


def enrich_page(channels: ChannelRules, context: dict[str, Any]) -> PageFacts:
    """Return the facts of the page, the referrer, the campaign and the content of a context."""
    page = object_or_empty(context.get("page"))
    query = page_query(page)
    campaign = _campaign(context, query)
    content = object_or_empty(context.get("content"))
    referrer = _referrer(context, page)
    channel = _channel(channels, page, query, campaign, referrer)
    return PageFacts(
        channel=channel,
        visit_channel="direct" if not channel and page and not referrer else channel,
        campaign=campaign,
        page_path=to_text(page.get("path")) or _split(to_text(page.get("url")))[1],
        content_id=to_text(content.get("id")),
        content_type=to_text(content.get("type")),
    )


def extract_valuation(properties: dict[str, Any]) -> Valuation:
    """Return the valuation of properties."""
    if VALUATION_PROPERTIES.isdisjoint(properties):
        return NO_VALUATION
    amounts = (to_number(properties.get(name)) for name in ("value", "revenue", "total"))
    return Valuation(
        value=next((amount for amount in amounts if amount is not None), None),
        currency=_currency(properties.get("currency")),
        sentiment=number_within(properties.get("sentiment"), -1.0, 1.0),
        effort=number_within(properties.get("effort"), 0.0, 10.0),
    )


def extract_content(properties: dict[str, Any], page: PageFacts) -> tuple[str, str]:
    """Return (id, type) of a call's content: that of its properties, else that of its context."""
    if CONTENT_PROPERTIES.isdisjoint(properties):
        return page.content_id, page.content_type
    content = object_or_empty(properties.get("content"))
    content_id, content_type = (
        (to_text(content.get("id")), to_text(content.get("type")))
        if content
        else (page.content_id, page.content_type)
    )
    return (
        content_id or to_text(properties.get("content_id")),
        content_type or to_text(properties.get("content_type")),
    )


def _channel(
    channels: ChannelRules,
    page: dict[str, Any],
    query: dict[str, str],
    campaign: dict[str, str],
    referrer: str,
) -> str:
    medium, source = campaign.get("medium", "").lower(), campaign.get("source", "").lower()
    channel = (
        channels.mediums.get(medium)
        or channels.sources.get(source)
        or (channels.channel_for_host(source) if source else None)
        or next((channels.click_ids[name] for name in query if name in channels.click_ids), None)
    )
    if channel:
        return channel
    if campaign:
        return "other"
    host = _split(referrer)[0] if referrer else ""
    if host and host != _split(to_text(page.get("url")))[0]:
        return channels.channel_for_host(host) or "referral"
    return ""


def _referrer(context: dict[str, Any], page: dict[str, Any]) -> str:
    return to_text(page.get("referrer")) or to_text(
        object_or_empty(context.get("referrer")).get("url")
    )


def _campaign(context: dict[str, Any], query: dict[str, str]) -> dict[str, str]:
    """Return the five UTM fields: those of `context.campaign`, else those of the page's address."""
    if not query and "campaign" not in context:
        return {}
    given = object_or_empty(context.get("campaign"))
    fields = {name: to_text(value) for name, value in given.items() if name in UTM}
    if not any(fields.values()):
        fields = {k: query.get(f"utm_{'campaign' if k == 'name' else k}", "") for k in UTM}
    return {name: value for name, value in fields.items() if value}


def page_query(page: dict[str, Any]) -> dict[str, str]:
    """Return the parameters of a page's address, names in lower case; none if it is unreadable."""
    query = (
        to_text(page.get("search")) or to_text(page.get("url")).partition("?")[2].partition("#")[0]
    )
    if not query:
        return {}
    try:
        storable = query.lstrip("?").replace("%00", "%EF%BF%BD")  # no NUL
        parameters = parse_qsl(storable, max_num_fields=100)
        return {name.lower(): value[:_LONGEST] for name, value in parameters}
    except ValueError:
        return {}


@cache_by_text(CACHED)
def _device_class(kind: str, agent: str) -> str:
    """Return phone, tablet, computer or an empty text.

    Source: the documentation of user agents by Android and iOS.
    """
    if "ipad" in agent or "tablet" in agent or ("android" in agent and "mobile" not in agent):
        return "tablet"
    if "mobi" in agent or "iphone" in agent or kind in ("ios", "android", "phone", "mobile"):
        return "phone"
    return "computer" if agent else ""


def _split(address: str) -> tuple[str, str]:
    """Return host and path of an address, both empty if it is none.

    The query is cut off first: with it, the cache would hardly ever hit.
    """
    return _parts(address.partition("?")[0])


@cache_by_text(CACHED)
def _parts(address: str) -> tuple[str, str]:
    try:
        parts = urlsplit(address)
        return parts.hostname or "", parts.path
    except ValueError:
        return "", ""


def _currency(value: Any) -> str:
    return value.upper() if isinstance(value, str) and _CURRENCY.fullmatch(value) else ""
