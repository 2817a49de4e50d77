"""Who looks at a page, as far as they have proven it.

A browser may say any user id: it counts beside its HMAC-SHA256 under the source's secret, or when a server says it. A signed link
token proves the person whom it was made for, if it went to an address that a server vouches for. An anonymous id is random,
known to that browser alone, and proves nothing more.
"""

import msgspec

from libs.common import link_tokens
from libs.common.user_hash import verify_user_hash


class SiteSource(msgspec.Struct, frozen=True):
    """The source whose write key a page brings."""

    workspace: str
    source: str
    trust: str
    user_hash_secret: str | None = None
    allowed_origins: tuple[str, ...] = ()

    def allows(self, origin: str | None) -> bool:
        """Return whether pages of an origin may ask; what names no origin is no browser."""
        return origin is None or not self.allowed_origins or origin in self.allowed_origins


class Visitor(msgspec.Struct, frozen=True):
    """What a page says of who looks at it."""

    anonymous_id: str | None = None
    user_id: str | None = None
    user_hash: str | None = None
    token: str | None = None


class VisitorIdentifier(msgspec.Struct, frozen=True):
    """Which identifier a visitor is looked up by; `proven` if it is theirs beyond doubt."""

    kind: str
    value: str
    verified: bool


def identify_visitor(
    visitor: Visitor, site: SiteSource, keys: tuple[str, ...], now: int
) -> VisitorIdentifier | None:
    """Return what is known of a visitor at an instant (µs UTC), None if nothing is."""
    if visitor.token:
        person = link_tokens.verify_link_token(keys, visitor.token, now)
        if person is not None and person.workspace == site.workspace:
            if (
                person.user_id
            ):  # whoever reads the mails of an address that nobody vouches for may be anybody
                return VisitorIdentifier("user_id", person.user_id, verified=person.verified)
            if person.email:
                return VisitorIdentifier("email", person.email.strip().lower(), verified=True)
    if visitor.user_id and _vouched(visitor.user_id, visitor.user_hash, site):
        return VisitorIdentifier("user_id", visitor.user_id, verified=True)
    return (
        VisitorIdentifier("anonymous_id", visitor.anonymous_id, verified=False)
        if visitor.anonymous_id
        else None
    )


def _vouched(user_id: str, user_hash: str | None, site: SiteSource) -> bool:
    if site.user_hash_secret is not None:
        return verify_user_hash(site.user_hash_secret, user_id, user_hash)
    return site.trust == "server"
