"""Which known identifiers are one person: the connected parts of the links that count.

A link is seen in touchpoints or made by hand; the last correction about a pair has the final word. An identifier with
more than MAX_LINKS links is nobody's own, and none of its links count: a limit on the set of links, so that the order in
which they came does not matter.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import msgspec

from services.scoring.domain.identity import MAX_LINKS, Identifier, Link


class ComponentMember(msgspec.Struct, frozen=True):
    """A known identifier: its contact now, the contact that it first had, and its place in the order of creation."""

    identifier: Identifier
    contact: str
    home: str
    number: int


class ComponentAssignment(msgspec.Struct):
    """Who is whose: the contact of each identifier, and where contacts that are nobody's any more redirect to."""

    contacts: dict[Identifier, str]
    redirects: dict[str, str]
    homes: dict[Identifier, str]
    """New homes: of identifiers that got a contact never seen before."""


def effective_links(links: Iterable[Link]) -> list[Link]:
    """Return the links without those of identifiers that have too many; `links` holds all links of those it touches."""
    found = sorted(set(links))
    degree = Counter(name for link in found for name in link)
    return [link for link in found if all(degree[name] <= MAX_LINKS for name in link)]


def connected_components(
    names: Iterable[Identifier], links: Iterable[Link]
) -> list[list[Identifier]]:
    """Return the connected parts, each sorted."""
    root: dict[Identifier, Identifier] = {name: name for name in names}

    def find(name: Identifier) -> Identifier:
        while root[name] != name:
            root[name] = root[root[name]]
            name = root[name]
        return name

    for one, other in links:
        if one in root and other in root:
            a, b = find(one), find(other)
            root[max(a, b)] = min(a, b)
    found: dict[Identifier, list[Identifier]] = {}
    for name in sorted(root):
        found.setdefault(find(name), []).append(name)
    return list(found.values())


def assign_components(
    members: Sequence[ComponentMember],
    links: Iterable[Link],
    free: set[str],
    fresh: Callable[[Identifier], str],
) -> ComponentAssignment:
    """Give each connected part of the members a contact.

    A part keeps the home of its oldest member, else of the next oldest: a contact's id belongs to whoever was created
    first. `free` are the contacts that may be given, `fresh` makes an id that nobody has.
    """
    by_name = {member.identifier: member for member in members}
    found = ComponentAssignment({}, {}, {})
    taken: set[str] = set()
    groups = [
        sorted((by_name[n] for n in part), key=lambda m: m.number)
        for part in connected_components(by_name, links)
    ]
    for part in sorted(groups, key=lambda part: part[0].number):
        contact = next((m.home for m in part if m.home in free and m.home not in taken), None)
        if contact is None:
            contact = fresh(part[0].identifier)
            found.homes[part[0].identifier] = contact
        taken.add(contact)
        found.contacts |= {member.identifier: contact for member in part}
    for member in sorted(members, key=lambda m: m.number):
        for old in (member.home, member.contact):
            if old in free and old not in taken:
                found.redirects.setdefault(old, found.contacts[member.identifier])
    return found
