"""Known identifiers joined into contacts: the connected components of the effective links.

A link comes from touchpoints or from an operator; the last correction about a pair decides. An
identifier with more than MAX_LINKS links belongs to no single contact, and none of its links is
effective. The limit is one on the set of links, so their order of arrival makes no difference.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import msgspec

from libs.common.ids import ContactId
from services.scoring.domain.identity import MAX_LINKS, Identifier, Link


class ComponentMember(msgspec.Struct, frozen=True):
    """A known identifier with its contact ids.

    `contact` is its contact now, `home` the contact id created for it, `number` its position in
    the order of creation.
    """

    identifier: Identifier
    contact: ContactId
    home: ContactId
    number: int


class ComponentAssignment(msgspec.Struct):
    """The contact of each identifier, and the redirects of contact ids without identifiers."""

    contacts: dict[Identifier, ContactId]
    redirects: dict[ContactId, ContactId]
    homes: dict[Identifier, ContactId]
    """The new contact ids, by the identifier for which each was created."""


def effective_links(links: Iterable[Link]) -> list[Link]:
    """Return the links without those of identifiers that have too many, sorted.

    `links` must contain every link of each identifier in it.
    """
    distinct_links = sorted(set(links))
    degree = Counter(identifier for link in distinct_links for identifier in link)
    return [
        link
        for link in distinct_links
        if all(degree[identifier] <= MAX_LINKS for identifier in link)
    ]


def connected_components(
    identifiers: Iterable[Identifier], links: Iterable[Link]
) -> list[list[Identifier]]:
    """Return the connected components, each sorted; links to other identifiers are ignored."""
    parent: dict[Identifier, Identifier] = {identifier: identifier for identifier in identifiers}

    def find_root(identifier: Identifier) -> Identifier:
        while parent[identifier] != identifier:
            parent[identifier] = parent[parent[identifier]]
            identifier = parent[identifier]
        return identifier

    for first, second in links:
        if first in parent and second in parent:
            a, b = find_root(first), find_root(second)
            parent[max(a, b)] = min(a, b)
    components: dict[Identifier, list[Identifier]] = {}
    for identifier in sorted(parent):
        components.setdefault(find_root(identifier), []).append(identifier)
    return list(components.values())


def assign_components(
    members: Sequence[ComponentMember],
    links: Iterable[Link],
    free: set[ContactId],
    fresh: Callable[[Identifier], ContactId],
) -> ComponentAssignment:
    """Assign a contact to each connected component of the members.

    A component keeps the home of its oldest member, else that of the next oldest: the contact
    created first survives a merge. `free` are the contact ids that may be assigned; `fresh`
    creates an unused one. A free id that no component gets redirects to the contact of the oldest
    member that had it.
    """
    by_identifier = {member.identifier: member for member in members}
    assignment = ComponentAssignment({}, {}, {})
    taken: set[ContactId] = set()
    components = [
        sorted((by_identifier[i] for i in component), key=lambda m: m.number)
        for component in connected_components(by_identifier, links)
    ]
    for component in sorted(components, key=lambda c: c[0].number):
        contact = next((m.home for m in component if m.home in free and m.home not in taken), None)
        if contact is None:
            contact = fresh(component[0].identifier)
            assignment.homes[component[0].identifier] = contact
        taken.add(contact)
        assignment.contacts |= {member.identifier: contact for member in component}
    for member in sorted(members, key=lambda m: m.number):
        for former in (member.home, member.contact):
            if former in free and former not in taken:
                assignment.redirects.setdefault(former, assignment.contacts[member.identifier])
    return assignment
