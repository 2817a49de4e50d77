"""`perigee demo`: its figures, and that a second one adds nothing."""

import json

import pytest

from cli.home import PROJECT
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
    ask_as_a_marketer(tmp_path)
    second = perigee(tmp_path, "demo", "--exit").stdout
    assert "31854 events accepted, 31854 touchpoints stored, 753 contacts" in second
    assert f"{sent} sent" in second
    assert "61 welcome" in second
    assert "where they stand now" in second
    for log in (tmp_path / "logs").glob("*.log"):
        assert "example.test" not in log.read_text(), f"personal data in {log.name}"


def ask_as_a_marketer(home):
    """Every command of the plays, on what the demo has left."""

    def said(*arguments):
        return perigee(home, *arguments, COLUMNS="200").stdout

    play = str(PROJECT / "plays" / "post_purchase.yaml")
    days = json.loads(said("play", "simulate", play, "--since", "20d", "--json"))
    assert sum(day.get("entered", 0) for day in days["days"]) > 50
    assert "all" in said("play", "simulate", str(PROJECT / "plays" / "quote_without_answer.yaml"))
    who = next(one["contact"] for one in days["happened"] if one["what"] == "sent")
    assert "stage change direction regression" in said("play", "list")
    assert "valid" in said("play", "validate", play)
    untold = perigee(home, "play", "validate", str(PROJECT / "plays" / "hot_prospect_to_sales.yaml"), check=False)
    assert (untold.returncode, "no destination 'sales'" in untold.stderr) == (1, True)
    assert "version 1 is live" in said("play", "publish", play)
    assert "Keep it shining" in said("play", "preview", play, "help", "--as", who)
    assert "post_purchase.thanks" in said("contact", "why-not", who)
    impact = {one["group"]: one for one in json.loads(said("play", "impact", "abandoned_cart", "--json"))}
    assert impact["held out"]["low"] < impact["version 1"]["high"], "nothing was sent yet that could have helped"
    assert "level 4 of 4" in said("play", "maturity")
    for verb in ("pause", "resume"):
        perigee(home, "play", verb, "welcome")
    perigee(home, "switch", "off", "email")
    assert said("switch", "list").split() == ["email"]
    perigee(home, "switch", "on", "email")
    assert "customer, member" in said("segment", "list"), "what is in brackets is shown"
    assert "lamp-guide" in said("content", "coverage", "--all")
    assert "no destination" in said("action", "list", "--status", "held")
    perigee(home, "event", "raise", "contract_ends", "--who", who, "--id", "e-1", "--date", "2099-01-01T00:00:00Z")
    assert "e-1" in said("event", "list")
    perigee(home, "event", "withdraw", "e-1")
    pair = next(one for one in json.loads(said("audience", "list", "--json")) if one["contacts"])
    exported = said("audience", "export", pair["fell_from"], pair["never_reached"])
    assert exported.startswith("contact_id,user_id,email_sha256")
