"""The links in letters: to unsubscribe, to the site in the reader's own name, to give to a friend."""

import base64
import hmac
import re
from collections.abc import Mapping
from hashlib import sha256
from html import escape, unescape
from urllib.parse import SplitResult, parse_qsl, urlencode, urljoin, urlsplit, urlunsplit

import msgspec

from libs.common.durations import parse_duration
from libs.common.link_tokens import (
    LINK_PARAMETER,
    REFERRAL_PARAMETER,
    LinkRecipient,
    sign_link_token,
)
from services.orchestrator.domain.unsubscribe_token import sign_token

TOKEN_LIFETIME = parse_duration("30d")
"""How long a link in a letter says for whom it was made."""
_URL = re.compile(r"https?://[^\s\"'<>]+")
_ENDS = ".,;:!?)"
"""What follows an address in a sentence and is no part of it."""


class MessageLinks(msgspec.Struct, frozen=True):
    """What links are made of: the address of the orchestrator's door, the site's, and the secrets that sign."""

    base_url: str
    secret: str
    site: str = ""
    """Where relative addresses of contents lead; links there say for whom they were made."""
    keys: tuple[str, ...] = ()
    """The first signs; without one, links say nothing."""
    written_at: int = 0

    def valid_from(self, now: int) -> "MessageLinks":
        """Return the links of what is written now (µs UTC): they are believed from then on."""
        return msgspec.structs.replace(self, written_at=now)

    def unsubscribe_url(self, contact_id: str, channel: str) -> str:
        """Return where a contact unsubscribes from a channel."""
        return f"{self.base_url}/u/{sign_token(self.secret, contact_id, channel)}"

    def referral_url(self, code: str) -> str:
        """Return what a contact gives to a friend."""
        return f"{self.base_url}/r/{code}"

    def referral_code(self, workspace: str, contact_id: str) -> str:
        """Return a contact's code: ten characters of an HMAC-SHA256, always the same, short enough to be typed."""
        mark = hmac.new(
            self.secret.encode(), f"referral.{workspace}.{contact_id}".encode(), sha256
        ).digest()
        return base64.b32encode(mark)[:10].decode().lower()

    def landing_url(self, code: str | None, path: str) -> str | None:
        """Return where a friend's link leads: a path of the site and no other place; None without a site."""
        if not self.site:
            return None
        inside = (
            path
            if path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
            else "/"
        )
        told = (
            {REFERRAL_PARAMETER: code, "utm_source": "referral", "utm_medium": "referral"}
            if code
            else {}
        )
        return _with(urljoin(self.site, inside), told, html=False)

    def absolute_url(self, url: str) -> str:
        """Return the address of a content as a letter needs it."""
        return urljoin(self.site, url) if self.site else url

    def tag_links(
        self,
        text: str,
        person: LinkRecipient | None,
        told: Mapping[str, str],
        *,
        html: bool = False,
    ) -> str:
        """Return a text whose links to the site carry what is told (UTM), and for whom they were made."""
        if not self.site:
            return text
        added = dict(told)
        if person is not None and self.keys:
            added[LINK_PARAMETER] = sign_link_token(
                self.keys, person, self.written_at + TOKEN_LIFETIME
            )

        def carried(found: re.Match[str]) -> str:
            whole = found.group()
            url = whole.rstrip(_ENDS)
            return (
                _with(url, added, html=html) + whole[len(url) :]
                if self._leads_to_the_site(url)
                else whole
            )

        return _URL.sub(carried, text)

    def _leads_to_the_site(self, url: str) -> bool:
        """Return whether it is a page of the site: no other host, whatever its address holds, and no door of ours beside it."""
        theirs, ours, site = _split(url), _split(self.base_url), _split(self.site)
        path = theirs.path.removeprefix(ours.path) if theirs.netloc == ours.netloc else ""
        return (theirs.scheme, theirs.netloc) == (site.scheme, site.netloc) and not path.startswith(
            ("/u/", "/r/")
        )


def _split(url: str) -> SplitResult:
    """Return an address's parts; what is none has no parts."""
    try:
        return urlsplit(url)
    except ValueError:
        return SplitResult("", "", "", "", "")


def _with(url: str, added: Mapping[str, str], *, html: bool) -> str:
    """Return an address with parameters that it does not have yet."""
    parts = urlsplit(unescape(url) if html else url)
    there = {name for name, _ in parse_qsl(parts.query, keep_blank_values=True)}
    more = urlencode({name: value for name, value in added.items() if name not in there})
    found = urlunsplit(parts._replace(query="&".join(part for part in (parts.query, more) if part)))
    return escape(found) if html else found
