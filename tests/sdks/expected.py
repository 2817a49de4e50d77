"""Calls that each library sends, and the touchpoints that they become."""

from collections import Counter
from collections.abc import Sequence

from libs.common.messages import Touchpoint, decode_value
from tests.support.instance import PARTITIONS
from tests.support.kafka import read_topic
from tests.support.servers import Servers

USER, ANONYMOUS = "ada-é", "device-1"
TRAITS = {"email": "ada@x.test", "plan": "pro", "nested": {"n": 1}}
ORDER = {
    "order_id": "o-1", "total": 19.9, "currency": "EUR", "quantity": 2, "note": "zażółć 🎈",
    "products": [{"sku": "a"}],
}  # fmt: skip
PINGS = range(40)
TOTAL = len(PINGS) + 6
# Libraries without retries lose the requests that the faulty proxy drops.
WITHOUT_RETRIES = {"jitsu-node", "jitsu-browser"}
# Calls that a library does not offer.
LACKS = {
    "jitsu-node": frozenset(("screen", "alias")),
    "jitsu-browser": frozenset(("screen", "alias")),
    "rudder-browser": frozenset(("screen",)),
}


def check(
    touchpoints: Sequence[Touchpoint],
    *,
    lacks: frozenset[str] = frozenset(),
    paths: Sequence[str] = ("/",),
) -> None:
    """Assert that each call, those in `lacks` excepted, is stored once with its fields."""
    ids = [t.message_id for t in touchpoints]
    assert len(set(ids)) == len(ids), "a message is on the topic twice"
    kinds = Counter((t.type, t.name) for t in touchpoints)
    expected = Counter(
        {("track", "Ping"): len(PINGS), ("track", "Order Completed"): 1, ("identify", ""): 1}
    )
    expected += Counter(
        {("page", "Home"): 1, ("screen", "Start"): 1, ("group", ""): 1, ("alias", ""): 1}
    )
    for name in lacks:
        expected.pop(next(kind for kind in expected if kind[0] == name))
    assert kinds == expected, kinds
    assert sorted(t.properties["n"] for t in touchpoints if t.name == "Ping") == list(PINGS)
    by_type = {t.type: t for t in touchpoints if t.name != "Ping"}
    assert {t.user_id for t in touchpoints} <= {USER, None}
    assert ORDER.items() <= by_type["track"].properties.items()
    assert by_type["identify"].traits == TRAITS
    assert by_type["page"].properties["path"] in paths
    assert (by_type["group"].group_id, by_type["group"].traits) == ("acme", {"name": "Acme"})
    if "alias" not in lacks:
        assert (by_type["alias"].previous_id, by_type["alias"].user_id) == ("old-ada", USER)


async def sent_by(name: str, servers: Servers) -> list[Touchpoint]:
    """Return the touchpoints of a source on the topic."""
    touchpoints = [
        decode_value(Touchpoint, r.value)
        for r in await read_topic(servers.kafka, "touchpoints", PARTITIONS)
    ]
    return [t for t in touchpoints if t.source == name]


def types_and_names(touchpoints: Sequence[Touchpoint]) -> list[tuple[str, str]]:
    """Return (type, name) of each touchpoint."""
    return [(t.type, t.name) for t in touchpoints]
