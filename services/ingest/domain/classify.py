"""What a message alone tells beside its words: where the person came from, with what, about what, and whether they are one.

The channel, first that says something: `context.channel` of a server, utm_medium, utm_source, a click id in the page's address,
the referrer's host, `direct` for a visit that came from nowhere. A referrer of the page's own host is a click inside the site and
says nothing. What is absent stays absent: no value is no zero, no sentiment is neutral.
"""

import math
import re
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import msgspec

from libs.common.cached import cached
from libs.common.links import REFERRAL
from services.ingest.domain.channels import CACHED, Channels

_CURRENCY = re.compile(r"[A-Za-z]{3}")
_LONGEST = 200
_SHORT = 20
_MARK = f"{REFERRAL}="


class Told(msgspec.Struct, frozen=True):
    """What was found, by the touchpoint's own fields; empty or None where nothing was said."""

    channel: str = ""
    is_bot: bool = False
    device_class: str = ""
    campaign: dict[str, str] = {}
    page_path: str = ""
    content_id: str = ""
    content_type: str = ""
    locale: str = ""
    timezone: str = ""
    value: float | None = None
    currency: str = ""
    sentiment: float | None = None
    effort: float | None = None


UTM = ("source", "medium", "name", "term", "content")


def classify(
    channels: Channels, call_type: str, properties: dict[str, Any], context: dict[str, Any], *, server: bool
) -> Told:
    """Return what properties and context tell. Unreadable parts tell nothing: they cost no message."""
    page = _dict(context.get("page"))
    query = _query(page)
    campaign = _campaign(context, query)
    agent = _text(context.get("userAgent")).lower()
    content = _dict(properties.get("content")) or _dict(context.get("content"))
    return Told(
        channel=_channel(
            channels, context, page, query, campaign, server=server, visit=call_type in ("page", "screen")
        ),
        is_bot=context.get("machine") is True or (agent != "" and channels.is_machine(agent)),
        device_class=_device_class(_text(_dict(context.get("device")).get("type")).lower()[:_SHORT], agent),
        campaign=campaign,
        page_path=_text(page.get("path")) or split(_text(page.get("url")))[1],
        content_id=_text(content.get("id")) or _text(properties.get("content_id")),
        content_type=_text(content.get("type")) or _text(properties.get("content_type")),
        locale=_text(context.get("locale")),
        timezone=_text(context.get("timezone")),
        value=next(
            (n for n in (_number(properties.get(k)) for k in ("value", "revenue", "total")) if n is not None), None
        ),
        currency=_currency(properties.get("currency")),
        sentiment=_within(properties.get("sentiment"), -1.0, 1.0),
        effort=_within(properties.get("effort"), 0.0, 10.0),
    )


def referral(context: dict[str, Any]) -> dict[str, str]:
    """Return the code by which a friend sent the person to this page, as the property that it is kept as; else nothing."""
    page = _dict(context.get("page"))
    if not any(_MARK in _text(page.get(name)) for name in ("search", "url")):
        return {}
    code = _query(page).get(REFERRAL, "")
    return {"referral_code": code} if code else {}


def _channel(
    channels: Channels,
    context: dict[str, Any],
    page: dict[str, Any],
    query: dict[str, str],
    campaign: dict[str, str],
    *,
    server: bool,
    visit: bool,
) -> str:
    named = _text(context.get("channel")).lower()
    if server and named in channels.names:
        return named
    said = channels.mediums.get(campaign.get("medium", "").lower()) or channels.sources.get(
        campaign.get("source", "").lower()
    )
    if said:
        return said
    clicked = next((channels.click_ids[name] for name in query if name in channels.click_ids), None)
    if clicked:
        return clicked
    if campaign:
        return "other"
    return _referred(channels, context, page, visit=visit)


def _referred(channels: Channels, context: dict[str, Any], page: dict[str, Any], *, visit: bool) -> str:
    referrer = _text(page.get("referrer")) or _text(_dict(context.get("referrer")).get("url"))
    host = split(referrer)[0] if referrer else ""
    if host and host != split(_text(page.get("url")))[0]:
        return channels.of_host(host) or "referral"
    return "direct" if visit and page and not referrer else ""


def _campaign(context: dict[str, Any], query: dict[str, str]) -> dict[str, str]:
    """Return the five UTM fields: those of `context.campaign`, else those of the page's address."""
    said = {k: _text(v) for k, v in _dict(context.get("campaign")).items() if k in UTM}
    if not any(said.values()):
        said = {k: query.get(f"utm_{'campaign' if k == 'name' else k}", "") for k in UTM}
    return {k: v for k, v in said.items() if v}


def _query(page: dict[str, Any]) -> dict[str, str]:
    text = _text(page.get("search")) or _text(page.get("url")).partition("?")[2].partition("#")[0]
    if not text:
        return {}
    try:
        return {name.lower(): value[:_LONGEST] for name, value in parse_qsl(text.lstrip("?"), max_num_fields=100)}
    except ValueError:
        return {}


@cached(CACHED)
def _device_class(kind: str, agent: str) -> str:
    """Return phone, tablet, computer or nothing. Source: what Android and iOS document of their user agents."""
    if "ipad" in agent or "tablet" in agent or ("android" in agent and "mobile" not in agent):
        return "tablet"
    if "mobi" in agent or "iphone" in agent or kind in ("ios", "android", "phone", "mobile"):
        return "phone"
    return "computer" if agent else ""


@cached(CACHED)
def split(address: str) -> tuple[str, str]:
    """Return an address's host and path; what is no address has neither."""
    try:
        parts = urlsplit(address)
        return parts.hostname or "", parts.path
    except ValueError:
        return "", ""


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)
    return value[: _LONGEST * 10] if isinstance(value, str) else ""


def _number(value: Any) -> float | None:
    """Return a finite number, also of a text that is one; anything else is none."""
    if value is None or isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _within(value: Any, least: float, most: float) -> float | None:
    number = _number(value)
    return number if number is not None and least <= number <= most else None


def _currency(value: Any) -> str:
    return value.upper() if isinstance(value, str) and _CURRENCY.fullmatch(value) else ""
