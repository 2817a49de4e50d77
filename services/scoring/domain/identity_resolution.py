"""Everybody at once: who is who according to a whole set of touchpoints. What the tables are an index of."""

import msgspec

from libs.common.messages import Touchpoint
from services.scoring.domain.identifier_components import connected_components, effective_links
from services.scoring.domain.identity import (
    Identifier,
    Key,
    Link,
    OwnershipPeriod,
    extract_identity,
    make_link,
    ownership_periods,
    subject_identifier,
)

SubjectKey = tuple[str, str, str]
"""(workspace, type, value) of the smallest of a person's known identifiers, else of a device or a message."""
DeviceKey = tuple[str, str]


class ManualLink(msgspec.Struct, frozen=True):
    """The last correction about a pair of identifiers."""

    workspace: str
    link: Link
    kind: str
    key: Key


class IdentityResolver:
    """Sees every touchpoint once, then says whose each one is."""

    def __init__(self, by_hand: list[ManualLink]) -> None:
        self._claims: dict[DeviceKey, list[tuple[Key, Identifier]]] = {}
        self._links: dict[str, set[Link]] = {}
        self._names: dict[str, set[Identifier]] = {}
        self._root: dict[tuple[str, Identifier], Identifier] = {}
        self._members: dict[SubjectKey, set[Identifier]] = {}
        self._devices: dict[tuple[str, Identifier], set[Identifier]] = {}
        self._by_hand = by_hand
        self.runs: dict[DeviceKey, list[OwnershipPeriod]] = {}

    def add_touchpoint(self, touchpoint: Touchpoint) -> None:
        """Take in the claims and links of a touchpoint."""
        who = extract_identity(touchpoint)
        for device, name in who.claims:
            self._claims.setdefault((who.workspace, device), []).append((who.key, name))
        self._names.setdefault(who.workspace, set()).update(who.names)
        for link in who.links:
            self._links.setdefault(who.workspace, set()).add(link)
            self._names[who.workspace].update(link)

    def resolve(self) -> None:
        """Work out the devices' runs and the people, when everything was seen."""
        for told in self._by_hand:
            self._correct(told)
        self.runs = {
            place: ownership_periods(claims) for place, claims in self._claims.items() if claims
        }
        for (workspace, device), runs in self.runs.items():
            for run in runs:
                self._devices.setdefault((workspace, run.owner), set()).add(
                    ("anonymous_id", device)
                )
        for workspace, names in self._names.items():
            links = effective_links(self._links.get(workspace, ()))
            for part in connected_components(names, links):
                self._members[workspace, *part[0]] = set(part)
                for name in part:
                    self._root[workspace, name] = part[0]

    def _correct(self, told: ManualLink) -> None:
        one, other = told.link
        if one[0] == "anonymous_id":
            claims = self._claims.setdefault((told.workspace, one[1]), [])
            if told.kind == "link":
                claims.append((told.key, other))
                self._names.setdefault(told.workspace, set()).add(other)
            else:
                claims[:] = [claim for claim in claims if claim[1] != other]
        elif told.kind == "link":
            self._links.setdefault(told.workspace, set()).add(make_link(one, other))
            self._names.setdefault(told.workspace, set()).update(told.link)
        else:
            self._links.get(told.workspace, set()).discard(make_link(one, other))

    def subject_of_identifier(self, workspace: str, name: Identifier) -> SubjectKey:
        """Return the person of a known identifier."""
        return (workspace, *self._root.get((workspace, name), name))

    def subject_of_touchpoint(self, touchpoint: Touchpoint) -> SubjectKey:
        """Return whose the touchpoint is."""
        who = extract_identity(touchpoint)
        name = subject_identifier(who, self.runs.get((who.workspace, who.device or ""), []))
        return self.subject_of_identifier(who.workspace, name)

    def list_identifiers(self, person: SubjectKey) -> frozenset[SubjectKey]:
        """Return what a person is known by: known identifiers, and the devices that one of them ever claimed."""
        workspace = person[0]
        names = self._members.get(person)
        if names is None:
            return frozenset({person})
        devices = {device for name in names for device in self._devices.get((workspace, name), ())}
        return frozenset({(workspace, *name) for name in names | devices})
