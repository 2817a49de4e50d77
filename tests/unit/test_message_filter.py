"""Message filters of subscriptions select messages by type, cycle, stage, direction and reason."""

import msgspec
import pytest

from libs.common.messages import decode_value
from libs.common.messages.message_filter import MessageFilter
from tests.contract.golden import EXAMPLES

STAGE, ACCOUNT, SIGNAL, EVENT = EXAMPLES[1:5]


@pytest.mark.parametrize(
    ("selection", "selected"),
    [
        ({}, [STAGE]),
        (
            {"types": ("stage_change", "signal", "account_stage_change")},
            [STAGE, ACCOUNT, SIGNAL],
        ),
        ({"cycles": ("engagement",)}, [STAGE]),
        ({"cycles": ("other",)}, []),
        ({"stages": ("prospect", "x")}, [STAGE]),
        ({"stages": ("lead",)}, []),
        ({"directions": ("advance",)}, [STAGE]),
        ({"directions": ("regression",)}, []),
        ({"reasons": ("touchpoint",)}, [STAGE]),
        ({"reasons": ("time",)}, []),
        ({"types": ("compelling_event",)}, [EVENT]),
        ({"types": ("compelling_event",), "cycles": ("other",)}, [EVENT]),
        ({"types": ("compelling_event",), "signals": ("contract_ends",)}, [EVENT]),
        ({"types": ("compelling_event",), "signals": ("funding",)}, []),
        ({"types": ("signal",), "signals": ("order_completed",)}, [SIGNAL]),
        ({"types": ("signal",), "signals": ("x",)}, []),
    ],
)
def test_message_filter_selects_named_messages(selection, selected):
    message_filter = MessageFilter(**selection)

    for example in (STAGE, ACCOUNT, SIGNAL, EVENT):
        value = msgspec.json.encode(example)
        assert decode_value(type(example), value) == example
        assert message_filter.matches("default", type(example).KIND, value) == (example in selected)
        assert not message_filter.matches("other", type(example).KIND, value)
    assert not message_filter.matches("default", "perigee.unheard-of.v1", b"{}")
