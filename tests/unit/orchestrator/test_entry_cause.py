"""Entry causes keep the field names under which sweeps stored them."""

import msgspec

from libs.common.ids import WorkspaceId
from services.orchestrator.domain.entry_cause import EntryCause

CAUSE = EntryCause("c-1", WorkspaceId("default"), 7, {"kind": "tender"}, of_many=True)
STORED = b'{"id":"c-1","workspace":"default","at":7,"told":{"kind":"tender"},"of_many":true}'


def test_row_of_an_earlier_release_is_read():
    cause = msgspec.json.decode(STORED, type=EntryCause)

    assert cause == CAUSE


def test_row_is_stored_under_the_same_names():
    stored = msgspec.json.encode(CAUSE)

    assert stored == STORED
