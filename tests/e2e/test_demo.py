"""`perigee demo`: its figures, and that a second one adds nothing."""

import json

import pytest

from tests.e2e.test_cli import perigee

pytestmark = pytest.mark.timeout(300)
KEYS = {
    "stage_changes": ["entry", "advance", "skip", "lateral", "regression", "repeat", "re_entry", "dormancy"],
    "actions": ["sent", "pending", "held", "suppressed", "capped", "holdout", "skipped", "failed", "in_doubt"],
    "deliveries": ["delivered", "retried", "failed", "unknown"],
}


def test_the_demo_twice(tmp_path):
    first = json.loads(perigee(tmp_path, "demo", "--json").stdout)
    assert first["events_accepted"] == first["touchpoints_stored"] == 31_854
    assert first["contacts"] == 753
    assert all(list(first[name]) == keys for name, keys in KEYS.items())
    assert all(first["stage_changes"].values()), first
    sent = first["plays"]["welcome"] + first["plays"]["post_purchase"]
    assert first["plays"]["welcome"] == 61
    assert len(first["plays"]) >= 7
    assert first["actions"] == {
        **dict.fromkeys(KEYS["actions"], 0), "sent": sent, "held": first["plays"]["hot_prospect_to_sales"],
    }  # fmt: skip
    assert first["deliveries"] == {**dict.fromkeys(KEYS["deliveries"], 0), "delivered": sent}
    assert len(list((tmp_path / "mail").glob("*.eml"))) == sent
    outcome = json.loads(perigee(tmp_path, "replay-check", "--json").stdout)
    assert outcome["equal"], outcome
    assert outcome["touchpoints"] == 31_854 + sent
    assert outcome["contacts"] == 753
    shown = perigee(tmp_path, "contact", "show", "user_0001@example.test").stdout
    assert "user_0001" in shown
    second = perigee(tmp_path, "demo", "--exit").stdout
    assert "31854 events accepted, 31854 touchpoints stored, 753 contacts" in second
    assert f"{sent} sent" in second
    assert "61 welcome" in second
    assert "where they stand now" in second
    for log in (tmp_path / "logs").glob("*.log"):
        assert "example.test" not in log.read_text(), f"personal data in {log.name}"
