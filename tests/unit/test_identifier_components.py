"""Components of linked identifiers: effective links, joined identifiers, and their contacts."""

from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scoring.domain.identifier_components import (
    ComponentMember,
    assign_components,
    connected_components,
    effective_links,
)
from services.scoring.domain.identity import MAX_LINKS, make_link


def user(name):
    return ("user_id", str(name))


def link(first, second):
    return make_link(user(first), user(second))


def links_of_mailbox(number):
    return [make_link(("email", "team@x.test"), user(n)) for n in range(number)]


def test_links_are_effective_up_to_the_limit():
    links = links_of_mailbox(MAX_LINKS)

    assert effective_links(links) == sorted(links)


def test_shared_identifier_loses_all_its_links():
    links = [*links_of_mailbox(MAX_LINKS + 1), link(1, 2)]

    assert effective_links(links) == [link(1, 2)]


def test_repeated_links_count_once():
    links = links_of_mailbox(MAX_LINKS)

    assert effective_links(links + links) == sorted(links)


@pytest.mark.parametrize(
    ("names", "links", "components"),
    [
        ("", [], []),
        ("ba", [], ["a", "b"]),
        ("ab", ["ab"], ["ab"]),
        ("cba", ["bc", "ab"], ["abc"]),
        ("abcd", ["ab", "cd"], ["ab", "cd"]),
        ("abcd", ["cd", "ab", "bd"], ["abcd"]),
        ("abcdef", ["ef", "de", "cd", "bc", "af"], ["abcdef"]),
        ("ab", ["ax", "xb"], ["a", "b"]),
        ("abc", ["ab", "bc", "ac"], ["abc"]),
    ],
)
def test_links_join_identifiers_into_sorted_components(names, links, components):
    joined = connected_components(map(user, names), [link(*pair) for pair in links])

    assert joined == [[user(name) for name in component] for component in components]


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=15),
    st.data(),
)
def test_components_need_no_order_of_links(pairs, data):
    identifiers = [user(n) for n in range(10)]
    links = [link(first, second) for first, second in pairs]
    arrived = data.draw(st.permutations(links))

    components = connected_components(identifiers, arrived)

    assert components == connected_components(identifiers, links)
    assert sorted(chain.from_iterable(components)) == identifiers
    assert all(
        any(first in component and second in component for component in components)
        for first, second in links
    )


def member(name, number, contact=None, home=None):
    home = home or f"home of {name}"
    return ComponentMember(user(name), contact or home, home, number)


def assign(members, links=(), free=None):
    """Assign contacts; every home and contact is free unless `free` is given."""
    contacts = {contact for m in members for contact in (m.home, m.contact)}
    return assign_components(
        members,
        [link(*pair) for pair in links],
        contacts if free is None else free,
        lambda identifier: f"new contact of {identifier[1]}",
    )


def test_contact_created_first_survives_merge():
    assignment = assign([member("ada", 2), member("zoe", 1)], [("ada", "zoe")])

    assert assignment.contacts == {user("ada"): "home of zoe", user("zoe"): "home of zoe"}
    assert assignment.redirects == {"home of ada": "home of zoe"}
    assert assignment.homes == {}


def test_identifiers_without_link_keep_their_homes():
    assignment = assign([member("ada", 1), member("zoe", 2)])

    assert assignment.contacts == {user("ada"): "home of ada", user("zoe"): "home of zoe"}
    assert assignment.redirects == {}
    assert assignment.homes == {}


def test_unmerged_identifiers_return_to_their_homes():
    assignment = assign([member("ada", 2, contact="home of zoe"), member("zoe", 1)])

    assert assignment.contacts == {user("ada"): "home of ada", user("zoe"): "home of zoe"}
    assert assignment.redirects == {}


def test_next_oldest_home_replaces_unavailable_home():
    assignment = assign(
        [member("ada", 1), member("bob", 3), member("zoe", 2)],
        [("ada", "bob"), ("bob", "zoe")],
        free={"home of bob", "home of zoe"},
    )

    assert set(assignment.contacts.values()) == {"home of zoe"}
    assert assignment.redirects == {"home of bob": "home of zoe"}
    assert assignment.homes == {}


def test_older_component_keeps_home_of_both():
    """Identifiers that were linked before they had contacts share one home."""
    members = [member("ada", 2, home="shared"), member("zoe", 1, home="shared")]

    assignment = assign(members)

    assert assignment.contacts == {user("ada"): "new contact of ada", user("zoe"): "shared"}
    assert assignment.homes == {user("ada"): "new contact of ada"}
    assert assignment.redirects == {}


def test_new_contact_is_of_oldest_member():
    assignment = assign([member("ada", 2), member("zoe", 1)], [("ada", "zoe")], free=set())

    assert set(assignment.contacts.values()) == {"new contact of zoe"}
    assert assignment.homes == {user("zoe"): "new contact of zoe"}
    assert assignment.redirects == {}


def test_left_contact_redirects_to_its_oldest_member():
    members = [member("ada", 2, contact="left"), member("zoe", 1, contact="left")]

    assignment = assign(members)

    assert assignment.contacts == {user("ada"): "home of ada", user("zoe"): "home of zoe"}
    assert assignment.redirects == {"left": "home of zoe"}
