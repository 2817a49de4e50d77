"""Gate requests of actions: purpose, address, consent, suppression and state of a contact."""

import pytest

from services.orchestrator.domain.action_spec import ActionSpec
from services.orchestrator.domain.gate import GateRequest
from services.orchestrator.domain.gate_request import build_gate_request
from tests.unit.orchestrator.builders import contact_facts, email_action

EMAIL = ActionSpec(**email_action())
RECEIPT = ActionSpec(**email_action(purpose="transactional"))
WEBHOOK = ActionSpec(action="call", channel="webhook", destination="crm")
TOPIC = ActionSpec(action="publish", channel="kafka")
ADA = contact_facts(
    traits={"email": "ada@x.test", "timezone": "Europe/Paris"}, consents={"marketing": True}
)


def audience_action(op):
    return ActionSpec(
        action="sync", channel="audience", destination="ads", audience={"name": "buyers", "op": op}
    )


def test_gate_request_states_contact_and_usage():
    request = build_gate_request(
        EMAIL, ADA, None, (1, 4), stopped="play_paused", unfit="no_content"
    )

    assert request == GateRequest(
        purpose="marketing",
        address="ada@x.test",
        consent=True,
        suppressed=None,
        used_today=1,
        used_this_week=4,
        time_zone="Europe/Paris",
        stopped="play_paused",
        unfit="no_content",
    )


def test_unknown_contact_has_no_address_and_no_consent():
    request = build_gate_request(EMAIL, contact_facts(), None, (0, 0))

    assert request == GateRequest("marketing", None, None, None, used_today=0)


@pytest.mark.parametrize(
    ("action", "purpose"),
    [
        (EMAIL, "marketing"),
        (RECEIPT, "transactional"),
        (WEBHOOK, "transactional"),
        (TOPIC, "transactional"),
        (audience_action("add"), "retargeting"),
        (audience_action("remove"), "transactional"),
    ],
)
def test_purpose_depends_on_channel_and_audience(action, purpose):
    assert build_gate_request(action, ADA, "there", (0, 0)).purpose == purpose


@pytest.mark.parametrize(
    ("action", "address"),
    [
        (EMAIL, "ada@x.test"),
        (WEBHOOK, "https://crm.test/hook"),
        (audience_action("add"), "https://crm.test/hook"),
    ],
)
def test_only_email_goes_to_the_contact(action, address):
    request = build_gate_request(action, ADA, "https://crm.test/hook", (0, 0))

    assert request.address == address


@pytest.mark.parametrize("given", [True, False])
def test_consent_is_that_for_marketing(given):
    contact = contact_facts(consents={"marketing": given, "profiling": not given})

    assert build_gate_request(EMAIL, contact, None, (0, 0)).consent is given


@pytest.mark.parametrize(
    ("suppressed", "reason"),
    [
        ({}, None),
        ({"email": "unsubscribed"}, "unsubscribed"),
        ({"*": "erased"}, "erased"),
        ({"email": "bounced", "*": "erased"}, "bounced"),
        ({"webhook": "complaint"}, None),
    ],
)
def test_suppression_applies_to_channel_or_all(suppressed, reason):
    contact = contact_facts(suppressed=suppressed)

    assert build_gate_request(EMAIL, contact, None, (0, 0)).suppressed == reason
