"""What the libraries are asked to send, and what has to be on the topic then."""

from collections import Counter
from collections.abc import Sequence

from libs.common.messages import Touchpoint, decode_value
from tests.support.instance import PARTITIONS
from tests.support.kafka import read_topic
from tests.support.servers import Servers

USER, ANONYMOUS = "ada-é", "device-1"
TRAITS = {"email": "ada@x.test", "plan": "pro", "nested": {"n": 1}}
ORDER = {
    "order_id": "o-1", "total": 19.9, "currency": "EUR", "quantity": 2, "note": "zażółć 🎈", "products": [{"sku": "a"}],
}  # fmt: skip
PINGS = range(40)
TOTAL = len(PINGS) + 6
# What does not try again: it loses what a mean road loses, and that is no matter of the door.
ONCE = {"jitsu-node", "jitsu-browser"}
# What the library does not have.
LACKS = {
    "jitsu-node": frozenset(("screen", "alias")),
    "jitsu-browser": frozenset(("screen", "alias")),
    "rudder-browser": frozenset(("screen",)),
}


def check(
    found: Sequence[Touchpoint],
    *,
    lacks: frozenset[str] = frozenset(),
    paths: Sequence[str] = ("/",),
) -> None:
    """Assert that each call is there exactly once with its fields; `lacks` are calls that it does not have."""
    ids = [t.message_id for t in found]
    assert len(set(ids)) == len(ids), "a message is on the topic twice"
    kinds = Counter((t.type, t.name) for t in found)
    expected = Counter(
        {("track", "Ping"): len(PINGS), ("track", "Order Completed"): 1, ("identify", ""): 1}
    )
    expected += Counter(
        {("page", "Home"): 1, ("screen", "Start"): 1, ("group", ""): 1, ("alias", ""): 1}
    )
    for name in lacks:
        expected.pop(next(kind for kind in expected if kind[0] == name))
    assert kinds == expected, kinds
    assert sorted(t.properties["n"] for t in found if t.name == "Ping") == list(PINGS)
    one = {t.type: t for t in found if t.name != "Ping"}
    assert {t.user_id for t in found} <= {USER, None}
    assert ORDER.items() <= one["track"].properties.items()
    assert one["identify"].traits == TRAITS
    assert one["page"].properties["path"] in paths
    assert (one["group"].group_id, one["group"].traits) == ("acme", {"name": "Acme"})
    if "alias" not in lacks:
        assert (one["alias"].previous_id, one["alias"].user_id) == ("old-ada", USER)


async def sent_by(name: str, servers: Servers) -> list[Touchpoint]:
    """Return what is on the topic of a source."""
    found = [
        decode_value(Touchpoint, r.value)
        for r in await read_topic(servers.kafka, "touchpoints", PARTITIONS)
    ]
    return [t for t in found if t.source == name]
