"""Identification of site visitors, with proof of identity.

A browser can claim any user id, so the claim counts only with the id's HMAC-SHA256 under the
source's secret, or from a source with server trust. A signed link token verifies its recipient if
the link was sent to a verified address. An anonymous id is random, known to one browser only, and
verifies nothing.
"""

import msgspec

from libs.common import link_tokens
from libs.common.ids import WorkspaceId
from libs.common.user_hash import verify_user_hash


class SiteSource(msgspec.Struct, frozen=True):
    """The source of a page, identified by its write key."""

    workspace: WorkspaceId
    source: str
    trust: str
    user_hash_secret: str | None = None
    allowed_origins: tuple[str, ...] = ()

    def allows(self, origin: str | None) -> bool:
        """Return whether an origin is allowed; a request without one is not from a browser."""
        return origin is None or not self.allowed_origins or origin in self.allowed_origins


class Visitor(msgspec.Struct, frozen=True):
    """The claims of a page about its visitor."""

    anonymous_id: str | None = None
    user_id: str | None = None
    user_hash: str | None = None
    token: str | None = None


class VisitorIdentifier(msgspec.Struct, frozen=True):
    """The identifier with which a visitor is looked up, and whether it is verified."""

    kind: str
    value: str
    verified: bool


def identify_visitor(
    visitor: Visitor, site: SiteSource, keys: tuple[str, ...], now: int
) -> VisitorIdentifier | None:
    """Return the identifier of a visitor at an instant (µs UTC), or None."""
    if visitor.token:
        recipient = link_tokens.verify_link_token(keys, visitor.token, now)
        if recipient is not None and recipient.workspace == site.workspace:
            # The reader of an unverified address may be any person, so it does not verify a user.
            if recipient.user_id:
                return VisitorIdentifier("user_id", recipient.user_id, verified=recipient.verified)
            if recipient.email:
                return VisitorIdentifier("email", recipient.email.strip().lower(), verified=True)
    if visitor.user_id and _is_verified_user(visitor.user_id, visitor.user_hash, site):
        return VisitorIdentifier("user_id", visitor.user_id, verified=True)
    return (
        VisitorIdentifier("anonymous_id", visitor.anonymous_id, verified=False)
        if visitor.anonymous_id
        else None
    )


def _is_verified_user(user_id: str, user_hash: str | None, site: SiteSource) -> bool:
    if site.user_hash_secret is not None:
        return verify_user_hash(site.user_hash_secret, user_id, user_hash)
    return site.trust == "server"
