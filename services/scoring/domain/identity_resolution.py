"""Identity resolution of a whole set of touchpoints at once.

It defines the contacts that the identity tables index; `replay` compares the two.
"""

from typing import NamedTuple

import msgspec

from libs.common.ids import WorkspaceId
from libs.common.messages import Touchpoint
from services.scoring.domain.assignment import DeviceKey
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


class SubjectKey(NamedTuple):
    """A contact's key among resolved subjects, or one identifier of it.

    As a key it is the smallest of the contact's known identifiers, else its device or message.
    """

    workspace: WorkspaceId
    type: str
    value: str


class ManualLink(msgspec.Struct, frozen=True):
    """The last correction about a pair of identifiers; `kind` is `link` or `unlink`."""

    workspace: WorkspaceId
    link: Link
    kind: str
    key: Key


class IdentityResolver:
    """Resolver of contacts: takes every touchpoint first, then gives the contact of each."""

    def __init__(self, manual_links: list[ManualLink]) -> None:
        self._claims: dict[DeviceKey, list[tuple[Key, Identifier]]] = {}
        self._links: dict[WorkspaceId, set[Link]] = {}
        self._names: dict[WorkspaceId, set[Identifier]] = {}
        self._root: dict[tuple[WorkspaceId, Identifier], Identifier] = {}
        self._members: dict[SubjectKey, set[Identifier]] = {}
        self._devices: dict[tuple[WorkspaceId, Identifier], set[Identifier]] = {}
        self._manual_links = manual_links
        self.ownership: dict[DeviceKey, list[OwnershipPeriod]] = {}
        """The ownership periods of each device, once resolved."""

    def add_touchpoint(self, touchpoint: Touchpoint) -> None:
        """Add the claims and links of a touchpoint, in any order."""
        identity = extract_identity(touchpoint)
        for device, owner in identity.claims:
            claims = self._claims.setdefault(DeviceKey(identity.workspace, device), [])
            claims.append((identity.key, owner))
        self._names.setdefault(identity.workspace, set()).update(identity.names)
        for link in identity.links:
            self._links.setdefault(identity.workspace, set()).add(link)
            self._names[identity.workspace].update(link)

    def resolve(self) -> None:
        """Compute ownership periods and contacts, after every touchpoint was added."""
        for correction in self._manual_links:
            self._apply_correction(correction)
        self.ownership = {
            device_key: ownership_periods(claims)
            for device_key, claims in self._claims.items()
            if claims
        }
        for (workspace, device), periods in self.ownership.items():
            for period in periods:
                self._devices.setdefault((workspace, period.owner), set()).add(
                    ("anonymous_id", device)
                )
        for workspace, names in self._names.items():
            links = effective_links(self._links.get(workspace, ()))
            for component in connected_components(names, links):
                self._members[SubjectKey(workspace, *component[0])] = set(component)
                for name in component:
                    self._root[workspace, name] = component[0]

    def _apply_correction(self, correction: ManualLink) -> None:
        workspace, (first, second) = correction.workspace, correction.link
        if first[0] == "anonymous_id":
            claims = self._claims.setdefault(DeviceKey(workspace, first[1]), [])
            if correction.kind == "link":
                claims.append((correction.key, second))
                self._names.setdefault(workspace, set()).add(second)
            else:
                claims[:] = [claim for claim in claims if claim[1] != second]
        elif correction.kind == "link":
            self._links.setdefault(workspace, set()).add(make_link(first, second))
            self._names.setdefault(workspace, set()).update(correction.link)
        else:
            self._links.get(workspace, set()).discard(make_link(first, second))

    def subject_of_identifier(self, workspace: WorkspaceId, name: Identifier) -> SubjectKey:
        """Return the contact of a known identifier."""
        return SubjectKey(workspace, *self._root.get((workspace, name), name))

    def subject_of_touchpoint(self, touchpoint: Touchpoint) -> SubjectKey:
        """Return the contact of a touchpoint."""
        identity = extract_identity(touchpoint)
        periods = self.ownership.get(DeviceKey(identity.workspace, identity.device or ""), [])
        return self.subject_of_identifier(identity.workspace, subject_identifier(identity, periods))

    def list_identifiers(self, subject: SubjectKey) -> frozenset[SubjectKey]:
        """Return a contact's known identifiers and every device that any of them ever claimed."""
        workspace = subject.workspace
        names = self._members.get(subject)
        if names is None:
            return frozenset({subject})
        devices = {device for name in names for device in self._devices.get((workspace, name), ())}
        return frozenset({SubjectKey(workspace, *name) for name in names | devices})
