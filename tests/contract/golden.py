"""One example of each message, with every field filled, as it lies on its topic."""

from libs.common.messages import (
    AccountStageChange,
    Action,
    AxisChange,
    Cause,
    CompellingEvent,
    ContactSnapshot,
    Signal,
    StageChange,
    StageMove,
    Touchpoint,
)
from libs.common.messages.contact import CycleState

AT = 1_780_000_000_000_000

EXAMPLES = [
    Touchpoint(
        workspace="default", source="web", message_id="m-1", type="track", occurred_at=AT, received_at=AT + 5_000,
        name="Order Completed", user_id="u-1", anonymous_id="a-1", channel="web", sent_at=AT + 1_000,
        original_timestamp=AT - 1_000, consent={"marketing": True}, campaign={"source": "newsletter"},
        properties={"order_id": "o-1", "total": 42.5}, context={"locale": "fr-FR"},
    ),
    StageChange(
        id="0" * 32, workspace="default", contact_id="c" * 32, cycle="engagement", cycle_version="1", sequence=3,
        occurred_at=AT, direction="advance", stage=StageMove("lead", "prospect"),
        axes={
            "buying": AxisChange("investigation", "validation", "advance"),
            "sales": AxisChange("identified", "qualified", "advance"),
        },
        dormant=False, instance="web:m-0", reason="touchpoint", cause=Cause("touchpoint", AT, "web", "m-1"),
        values={"interest": 9.5, "intent": 12.0}, identifiers=["user_id:u-1", "external:hubspot:701"],
        crm={"hubspot": "salesqualifiedlead", "salesforce": "Working - Contacted"},
    ),
    AccountStageChange(
        id="4" * 32, workspace="default", account_id="a" * 32, group_id="acme", cycle="accounts", cycle_version="1",
        sequence=1, occurred_at=AT, direction="entry", stage=StageMove(None, "target"),
        axes={"buying": AxisChange(None, "investigation", "entry"), "sales": AxisChange(None, "identified", "entry")},
        dormant=False, instance="web:m-0", reason="touchpoint", cause=Cause("touchpoint", AT, "web", "m-1"),
        values={"interest": 9.5},
    ),
    Signal(
        id="1" * 32, workspace="default", contact_id="c" * 32, cycle="engagement", signal="order_completed",
        occurred_at=AT, received_at=AT + 5_000, source="web", message_id="m-1", historical=True, user_id="u-1",
        anonymous_id="a-1", properties={"total": 42.5},
    ),
    CompellingEvent(
        id="5" * 32, event_id="renewal-7", workspace="default", kind="contract_ends", scope="contact", status="nearing",
        version=2, occurred_at=AT, contact_id="c" * 32, account_id="a" * 32, date=AT + 7 * 86_400_000_000,
        left=7 * 86_400_000_000, owner="jo@sales.example", consequence="the old price is gone", cause="raised by jo",
        properties={"contract": "7"},
    ),
    ContactSnapshot(
        workspace="default", contact_id="c" * 32, version=7, user_ids=["u-1"], anonymous_ids=["a-1"],
        traits={"email": "ada@example.test"},
        cycles={
            "engagement": CycleState(
                "prospect", {"buying": "validation"}, False, "web:m-0", 3, {"hubspot": "salesqualifiedlead"}
            )
        },
        merged_into=None,
    ),
    Action(
        id="2" * 32, workspace="default", action_id="3" * 32, contact_id="c" * 32, play="welcome", step="welcome_mail",
        channel="email", status="sent", reason="accepted by the server", occurred_at=AT, cause="1" * 32, attempt=1,
        outcome="delivered", destination="crm", content="lamp-guide", data={"text": "Hi"},
        until=AT + 1_000,
    ),
]  # fmt: skip
