"""Links in rendered messages: unsubscribe links, personal site links and referral links."""

import base64
import hmac
import re
from collections.abc import Mapping
from hashlib import sha256
from html import escape, unescape
from urllib.parse import SplitResult, parse_qsl, urlencode, urljoin, urlsplit, urlunsplit

import msgspec

from libs.common.durations import parse_duration
from libs.common.ids import ContactId, WorkspaceId
from libs.common.link_tokens import (
    LINK_PARAMETER,
    REFERRAL_PARAMETER,
    LinkRecipient,
    sign_link_token,
)
from services.orchestrator.domain.unsubscribe_token import sign_token

TOKEN_LIFETIME = parse_duration("30d")
"""Validity of the recipient token in a link (µs)."""
_URL = re.compile(r"https?://[^\s\"'<>]+")
_TRAILING_PUNCTUATION = ".,;:!?)"
"""Characters that follow a URL in a sentence and are not part of it."""


class MessageLinks(msgspec.Struct, frozen=True):
    """Settings of links: base URLs of the orchestrator and of the site, and signing secrets."""

    base_url: str
    secret: str
    site: str = ""
    """Base URL of the website; links to it carry a token of the recipient."""
    keys: tuple[str, ...] = ()
    """Keys of recipient tokens: the first one signs; without keys, links carry no token."""
    written_at: int = 0

    def valid_from(self, now: int) -> "MessageLinks":
        """Return links whose tokens are valid from `now` on (µs UTC)."""
        return msgspec.structs.replace(self, written_at=now)

    def unsubscribe_url(self, contact_id: ContactId, channel: str) -> str:
        """Return the URL with which a contact unsubscribes from a channel."""
        return f"{self.base_url}/u/{sign_token(self.secret, contact_id, channel)}"

    def referral_url(self, code: str) -> str:
        """Return the URL that a contact gives to a friend."""
        return f"{self.base_url}/r/{code}"

    def referral_code(self, workspace: WorkspaceId, contact_id: ContactId) -> str:
        """Return a contact's constant referral code: ten base32 characters of an HMAC-SHA256."""
        digest = hmac.new(
            self.secret.encode(), f"referral.{workspace}.{contact_id}".encode(), sha256
        ).digest()
        return base64.b32encode(digest)[:10].decode().lower()

    def landing_url(self, code: str | None, path: str) -> str | None:
        """Return the target of a referral link, a path of the site only; None without a site."""
        if not self.site:
            return None
        site_path = (
            path
            if path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
            else "/"
        )
        parameters = (
            {REFERRAL_PARAMETER: code, "utm_source": "referral", "utm_medium": "referral"}
            if code
            else {}
        )
        return _add_parameters(urljoin(self.site, site_path), parameters, html=False)

    def absolute_url(self, url: str) -> str:
        """Return the absolute URL of a content item."""
        return urljoin(self.site, url) if self.site else url

    def tag_links(
        self,
        text: str,
        recipient: LinkRecipient | None,
        parameters: Mapping[str, str],
        *,
        html: bool = False,
    ) -> str:
        """Return a text whose links to the site carry parameters (UTM) and the recipient token."""
        if not self.site:
            return text
        added = dict(parameters)
        if recipient is not None and self.keys:
            added[LINK_PARAMETER] = sign_link_token(
                self.keys, recipient, self.written_at + TOKEN_LIFETIME
            )

        def tag(match: re.Match[str]) -> str:
            matched = match.group()
            url = matched.rstrip(_TRAILING_PUNCTUATION)
            return (
                _add_parameters(url, added, html=html) + matched[len(url) :]
                if self._is_site_page(url)
                else matched
            )

        return _URL.sub(tag, text)

    def _is_site_page(self, url: str) -> bool:
        """Return whether a URL has the site's origin and is no endpoint of the orchestrator."""
        target, own, site = _split(url), _split(self.base_url), _split(self.site)
        path = target.path.removeprefix(own.path) if target.netloc == own.netloc else ""
        return (target.scheme, target.netloc) == (site.scheme, site.netloc) and not path.startswith(
            ("/u/", "/r/")
        )


def _split(url: str) -> SplitResult:
    """Return the parts of a URL, empty parts if it is invalid."""
    try:
        return urlsplit(url)
    except ValueError:
        return SplitResult("", "", "", "", "")


def _add_parameters(url: str, added: Mapping[str, str], *, html: bool) -> str:
    """Return a URL with the parameters that it does not have yet."""
    parts = urlsplit(unescape(url) if html else url)
    existing = {name for name, _ in parse_qsl(parts.query, keep_blank_values=True)}
    added_query = urlencode({name: value for name, value in added.items() if name not in existing})
    query = "&".join(part for part in (parts.query, added_query) if part)
    tagged = urlunsplit(parts._replace(query=query))
    return escape(tagged) if html else tagged
