"""Identity resolution depends on the set of touchpoints, not on their order of arrival."""

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
from services.scoring.domain.identity_resolution import IdentityResolver, ManualLink
from tests.support.reference_identity import ReferenceIdentity
from tests.support.touchpoints import START, touchpoint

USERS = ("u", "v", "w")
DEVICES = ("a", "b")


@st.composite
def touchpoint_batches(draw):
    batch = []
    for number in range(draw(st.integers(1, 12))):
        user = draw(st.sampled_from([None, None, *USERS]))
        device = draw(st.sampled_from(DEVICES if user is None else (None, *DEVICES)))
        at = draw(st.integers(0, 20))
        batch.append(touchpoint(at, number=number, user_id=user, anonymous_id=device))
    return batch


@st.composite
def server_batches(draw):
    """Draw touchpoints with names that link, aliases and junk among them."""
    users = st.sampled_from([None, *USERS, "undefined"])
    return [
        touchpoint(
            draw(st.integers(0, 20)),
            number=number,
            type=draw(st.sampled_from(["track", "alias"])),
            trust="server",
            user_id=draw(users),
            anonymous_id=draw(st.sampled_from([None, *DEVICES, "undefined"])),
            previous_id=draw(st.sampled_from([None, *USERS, *DEVICES])),
            verified_email=draw(st.sampled_from([None, "u@x.test", "v@x.test"])),
            external_ids=draw(st.dictionaries(st.sampled_from(["crm", "shop"]), st.just("7"))),
        )
        for number in range(draw(st.integers(1, 8)))
    ]


KNOWN = [*(("user_id", user) for user in USERS), ("email", "u@x.test"), ("external:crm", "7")]
PAIRS = [(smaller, larger) for smaller in KNOWN for larger in KNOWN if smaller < larger]
CLAIMS = [(("anonymous_id", device), known) for device in DEVICES for known in KNOWN]
CORRECTIONS = st.dictionaries(
    st.sampled_from(PAIRS + CLAIMS),
    st.tuples(
        st.sampled_from(["link", "unlink"]),
        st.tuples(st.integers(START, START + 20), st.just("operator"), st.just("c")),
    ),
    max_size=4,
)


class InMemoryStore:
    """Database rows in memory: identifiers, ownership periods, touchpoints with their contacts."""

    def __init__(self):
        self.contacts = {}
        self.ownership = {}
        self.rows = []
        self.merged = {}

    def store(self, batch):
        identities = [extract_identity(t) for t in batch]
        known_identifiers = KnownIdentifiers(
            dict(self.contacts),
            {device: list(periods) for device, periods in self.ownership.items()},
        )
        claims = {
            device: self.claims(device)
            for device in contested_devices(identities, known_identifiers)
        }
        assignment = assign_contacts(identities, known_identifiers, claims)
        self.contacts |= assignment.new
        self.ownership |= assignment.changed
        self.merged |= assignment.merged
        self.rows += [
            [identity, contact]
            for identity, contact in zip(identities, assignment.contacts, strict=True)
        ]
        for device, periods in assignment.changed.items():
            self.reassign(device, periods)

    def reassign(self, device, periods):
        """Move the anonymous touchpoints of a device to its owner at their time."""
        for row in self.rows:
            identity = row[0]
            if not identity.names and (identity.workspace, identity.device) == device:
                row[1] = self.contacts[device[0], owner_at(periods, identity.key)]

    def claims(self, device):
        claims = [
            (identity.key, name)
            for identity, _ in self.rows
            for claimed_device, name in identity.claims
            if (identity.workspace, claimed_device) == device
        ]
        return DeviceClaims(sorted(claims), set())


@given(touchpoint_batches(), st.data())
@settings(max_examples=400, deadline=None)
def test_any_arrival_order_resolves_same_contacts(batch, data):
    order = data.draw(st.permutations(batch))
    store = InMemoryStore()
    while order:
        size = data.draw(st.integers(1, len(order)))
        store.store(order[:size])
        order = order[size:]
    resolver = IdentityResolver([])
    for t in batch:
        resolver.add_touchpoint(t)

    resolver.resolve()

    contacts = {}
    for identity, contact in store.rows:
        periods = resolver.ownership.get((identity.workspace, identity.device or ""), [])
        subject = subject_identifier(identity, periods)
        assert contacts.setdefault(subject, contact) == contact, "one person, two contacts"
    assert len(set(contacts.values())) == len(contacts), "two persons share a contact"
    assert not set(store.merged) & set(contacts.values()), "a merged contact still has touchpoints"


@given(
    st.lists(st.tuples(st.integers(0, 9), st.sampled_from(USERS)), min_size=1, max_size=8),
    st.integers(0, 9),
)
def test_ownership_periods_equal_all_claims(claims, at):
    keyed_claims = [
        ((instant, "web", str(number)), ("user_id", user))
        for number, (instant, user) in enumerate(claims)
    ]
    key = (at, "web", "zz")
    earlier = [user for claim_key, user in sorted(keyed_claims) if claim_key <= key]
    expected = earlier[-1] if earlier else min(keyed_claims)[1]

    assert owner_at(ownership_periods(keyed_claims), key) == expected


@given(server_batches(), CORRECTIONS)
@settings(max_examples=200, deadline=None)
def test_resolver_agrees_with_naive_reference(batch, corrections):
    reference = ReferenceIdentity(batch, corrections)
    resolver = IdentityResolver(
        [ManualLink("default", pair, kind, key) for pair, (kind, key) in corrections.items()]
    )
    for t in batch:
        resolver.add_touchpoint(t)

    resolver.resolve()

    for t in batch:
        assert resolver.subject_of_touchpoint(t)[1:] == reference.contact_of_touchpoint(t)
