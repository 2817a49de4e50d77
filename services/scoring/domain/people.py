"""Everybody at once: who is who according to a whole set of touchpoints. What the tables are an index of."""

import msgspec

from libs.common.messages import Touchpoint
from services.scoring.domain.grouping import links_that_count, parts
from services.scoring.domain.identity import Identifier, Key, Link, Run, link_of, runs_of, subject, who_of

Person = tuple[str, str, str]
"""(workspace, type, value) of the smallest of a person's known identifiers, else of a device or a message."""
Place = tuple[str, str]


class ByHand(msgspec.Struct, frozen=True):
    """The last correction about a pair of identifiers."""

    workspace: str
    link: Link
    kind: str
    key: Key


class People:
    """Sees every touchpoint once, then says whose each one is."""

    def __init__(self, by_hand: list[ByHand]) -> None:
        self._claims: dict[Place, list[tuple[Key, Identifier]]] = {}
        self._links: dict[str, set[Link]] = {}
        self._names: dict[str, set[Identifier]] = {}
        self._root: dict[tuple[str, Identifier], Identifier] = {}
        self._members: dict[Person, set[Identifier]] = {}
        self._devices: dict[tuple[str, Identifier], set[Identifier]] = {}
        self._by_hand = by_hand
        self.runs: dict[Place, list[Run]] = {}

    def see(self, touchpoint: Touchpoint) -> None:
        """Take in the claims and links of a touchpoint."""
        who = who_of(touchpoint)
        for device, name in who.claims:
            self._claims.setdefault((who.workspace, device), []).append((who.key, name))
        self._names.setdefault(who.workspace, set()).update(who.names)
        for link in who.links:
            self._links.setdefault(who.workspace, set()).add(link)
            self._names[who.workspace].update(link)

    def settle(self) -> None:
        """Work out the devices' runs and the people, when everything was seen."""
        for told in self._by_hand:
            self._correct(told)
        self.runs = {place: runs_of(claims) for place, claims in self._claims.items() if claims}
        for (workspace, device), runs in self.runs.items():
            for run in runs:
                self._devices.setdefault((workspace, run.owner), set()).add(("anonymous_id", device))
        for workspace, names in self._names.items():
            links = links_that_count(self._links.get(workspace, ()))
            for part in parts(names, links):
                self._members[workspace, *part[0]] = set(part)
                for name in part:
                    self._root[workspace, name] = part[0]

    def _correct(self, told: ByHand) -> None:
        one, other = told.link
        if one[0] == "anonymous_id":
            claims = self._claims.setdefault((told.workspace, one[1]), [])
            if told.kind == "link":
                claims.append((told.key, other))
                self._names.setdefault(told.workspace, set()).add(other)
            else:
                claims[:] = [claim for claim in claims if claim[1] != other]
        elif told.kind == "link":
            self._links.setdefault(told.workspace, set()).add(link_of(one, other))
            self._names.setdefault(told.workspace, set()).update(told.link)
        else:
            self._links.get(told.workspace, set()).discard(link_of(one, other))

    def known(self, workspace: str, name: Identifier) -> Person:
        """Return the person of a known identifier."""
        return (workspace, *self._root.get((workspace, name), name))

    def person(self, touchpoint: Touchpoint) -> Person:
        """Return whose the touchpoint is."""
        who = who_of(touchpoint)
        name = subject(who, self.runs.get((who.workspace, who.device or ""), []))
        return self.known(who.workspace, name)

    def identifiers(self, person: Person) -> frozenset[Person]:
        """Return what a person is known by: known identifiers, and the devices that one of them ever claimed."""
        workspace = person[0]
        names = self._members.get(person)
        if names is None:
            return frozenset({person})
        devices = {device for name in names for device in self._devices.get((workspace, name), ())}
        return frozenset({(workspace, *name) for name in names | devices})
