"""Naive reference of identity resolution: identifiers are joined pair by pair until a fixpoint.

It shares nothing with the product's identity resolution.
"""

from collections import Counter
from typing import Any

from libs.common.messages import Touchpoint

JUNK = {"undefined"}
LIMIT = 50
Correction = tuple[int, str, Any]
"""(number, kind, subject)"""


class ReferenceIdentity:
    """Contacts of a set of touchpoints and manual links."""

    def __init__(
        self, touchpoints: list[Touchpoint], pairs: dict[tuple[Any, Any], tuple[str, Any]]
    ) -> None:
        self.pairs = pairs
        self.contacts = _joined(touchpoints, pairs)
        self.claims: dict[str, list[Any]] = {}
        for t in touchpoints:
            self._claim(t)
        for (first, second), (kind, key) in pairs.items():
            if first[0] == "anonymous_id" and kind == "link":
                self.claims.setdefault(first[1], []).append((key, second))

    def _claim(self, t: Touchpoint) -> None:
        own = identifiers_of(t)
        devices = [t.anonymous_id, t.previous_id if t.type == "alias" else None]
        for device in sorted({d for d in devices if d is not None and d not in JUNK}):
            if own and self.pairs.get((("anonymous_id", device), own[0]), ("",))[0] != "unlink":
                self.claims.setdefault(device, []).append((t.key, own[0]))

    def contact_of_touchpoint(self, t: Touchpoint) -> Any:
        """Return the contact of a touchpoint."""
        own = identifiers_of(t)
        if own:
            return self.contact_of_identifier(own[0])
        if t.anonymous_id is None or t.anonymous_id in JUNK:
            return ("message", f"{t.source}:{t.message_id}")
        claims = sorted(self.claims.get(t.anonymous_id, []))
        if not claims:
            return ("anonymous_id", t.anonymous_id)
        before = [claim for claim in claims if claim[0] <= t.key]
        return self.contact_of_identifier((before[-1] if before else claims[0])[1])

    def contact_of_identifier(self, name: Any) -> Any:
        """Return the contact of a known identifier."""
        return self.contacts.get(name, name)


def _joined(
    touchpoints: list[Touchpoint], pairs: dict[tuple[Any, Any], tuple[str, Any]]
) -> dict[Any, Any]:
    names = {name for t in touchpoints for name in identifiers_of(t)}
    links = {link for t in touchpoints for link in links_of(t)}
    for (first, second), (kind, _) in pairs.items():
        if first[0] != "anonymous_id":
            (links.add if kind == "link" else links.discard)((first, second))
    names |= {name for link in links for name in link}
    degree = Counter(name for link in links for name in link)
    links = {(a, b) for a, b in links if degree[a] <= LIMIT and degree[b] <= LIMIT}
    contact_of = {name: name for name in names}
    changed = True
    while changed:
        changed = False
        for link in links:
            low = min(contact_of[name] for name in link)
            for name in link:
                if contact_of[name] != low:
                    contact_of[name], changed = low, True
    return contact_of


def identifiers_of(t: Touchpoint) -> list[tuple[str, str]]:
    """Return a touchpoint's known identifiers, strongest first."""
    names = [("user_id", t.user_id)] if t.user_id and t.user_id not in JUNK else []
    if t.trust == "server":
        names += [("email", t.verified_email)] if t.verified_email else []
        names += sorted((f"external:{system}", value) for system, value in t.external_ids.items())
    return names


def links_of(t: Touchpoint) -> list[Any]:
    """Return the identifier pairs that a touchpoint links."""
    own = identifiers_of(t)
    if t.trust != "server" or not own:
        return []
    others = own[1:] + ([("user_id", t.previous_id)] if t.type == "alias" and t.previous_id else [])
    return [tuple(sorted((own[0], other))) for other in others if other != own[0]]
