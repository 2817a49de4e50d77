"""Whose a touchpoint is depends on the set of touchpoints, not on the order in which they came."""

from hypothesis import given, settings
from hypothesis import strategies as st

from services.scoring.domain.assignment import (
    DeviceClaims,
    KnownIdentifiers,
    assign_contacts,
    contested_devices,
)
from services.scoring.domain.identity import (
    extract_identity,
    owner_at,
    ownership_periods,
    subject_identifier,
)
from services.scoring.domain.identity_resolution import IdentityResolver
from tests.support.touchpoints import touchpoint

USERS = ("u", "v", "w")
DEVICES = ("a", "b")


@st.composite
def batches(draw):
    found = []
    for number in range(draw(st.integers(1, 12))):
        user = draw(st.sampled_from([None, None, *USERS]))
        device = draw(st.sampled_from(DEVICES if user is None else (None, *DEVICES)))
        at = draw(st.integers(0, 20))
        found.append(touchpoint(at, number=number, user_id=user, anonymous_id=device))
    return found


class Store:
    """What the database would hold: identifiers, runs, touchpoints with their contacts."""

    def __init__(self):
        self.contacts = {}
        self.runs = {}
        self.rows = []
        self.merged = {}

    def take(self, batch):
        whos = [extract_identity(t) for t in batch]
        known = KnownIdentifiers(
            dict(self.contacts), {place: list(runs) for place, runs in self.runs.items()}
        )
        found = assign_contacts(
            whos, known, {place: self.claims(place) for place in contested_devices(whos, known)}
        )
        self.contacts |= found.new
        self.runs |= found.changed
        self.merged |= found.merged
        self.rows += [[who, contact] for who, contact in zip(whos, found.contacts, strict=True)]
        for place, runs in found.changed.items():
            for row in self.rows:
                if not row[0].names and (row[0].workspace, row[0].device) == place:
                    row[1] = self.contacts[place[0], owner_at(runs, row[0].key)]

    def claims(self, place):
        made = [
            (w.key, name)
            for w, _ in self.rows
            for device, name in w.claims
            if (w.workspace, device) == place
        ]
        return DeviceClaims(sorted(made), set())


@given(batches(), st.data())
@settings(max_examples=400, deadline=None)
def test_any_arrival_gives_the_same_people(batch, data):
    order = data.draw(st.permutations(batch))
    store = Store()
    while order:
        size = data.draw(st.integers(1, len(order)))
        store.take(order[:size])
        order = order[size:]
    people = IdentityResolver([])
    for t in batch:
        people.add_touchpoint(t)
    people.resolve()
    subjects = {}
    for who, contact in store.rows:
        name = subject_identifier(who, people.ownership.get((who.workspace, who.device or ""), []))
        assert subjects.setdefault(name, contact) == contact, "one person, two contacts"
    assert len(set(subjects.values())) == len(subjects), "two people share a contact"
    assert not set(store.merged) & set(subjects.values()), "a merged contact still has touchpoints"


@given(
    st.lists(st.tuples(st.integers(0, 9), st.sampled_from(USERS)), min_size=1, max_size=8),
    st.integers(0, 9),
)
def test_runs_answer_as_all_claims_do(claims, at):
    keyed = [
        ((instant, "web", str(number)), ("user_id", user))
        for number, (instant, user) in enumerate(claims)
    ]
    key = (at, "web", "zz")
    before = [user for k, user in sorted(keyed) if k <= key]
    expected = before[-1] if before else min(keyed)[1]
    assert owner_at(ownership_periods(keyed), key) == expected
