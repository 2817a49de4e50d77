"""`perigee demo`: its figures, and that a second one adds nothing."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from cli.home import PROJECT
from tests.e2e.test_cli import PERIGEE, clean_environment, exports, perigee

pytestmark = pytest.mark.timeout(300)
KEYS = {
    "stage_changes": [
        "entry",
        "advance",
        "skip",
        "lateral",
        "regression",
        "repeat",
        "re_entry",
        "dormancy",
    ],
    "actions": [
        "sent",
        "pending",
        "held",
        "suppressed",
        "capped",
        "holdout",
        "skipped",
        "failed",
        "in_doubt",
    ],
    "deliveries": ["delivered", "retried", "failed", "unknown"],
}


@pytest.fixture
def home(tmp_path):
    yield tmp_path
    perigee(tmp_path, "down", check=False)  # whatever became of the test


def test_the_demo_twice(home):
    first = json.loads(perigee(home, "demo", "--json").stdout)
    assert first["events_accepted"] == first["touchpoints_stored"] == 31_854
    assert first["contacts"] == 753
    assert all(list(first[name]) == keys for name, keys in KEYS.items())
    assert all(first["stage_changes"].values()), first
    sent = first["plays"]["welcome"] + first["plays"]["post_purchase"]
    assert first["plays"]["welcome"] == 61
    assert len(first["plays"]) >= 7
    held, retargeted = first["actions"].pop("held"), first["plays"]["retargeting"]
    # Nobody has said yet where to: whoever was to be added to an audience, and perhaps to be taken out since, waits.
    assert held - first["plays"]["hot_prospect_to_sales"] in range(retargeted, 2 * retargeted + 1)
    assert {name: count for name, count in first["actions"].items() if count} == {"sent": sent}
    assert first["deliveries"] == {**dict.fromkeys(KEYS["deliveries"], 0), "delivered": sent}
    assert len(list((home / "mail").glob("*.eml"))) == sent
    outcome = json.loads(perigee(home, "replay-check", "--json").stdout)
    assert outcome["equal"], outcome
    assert outcome["touchpoints"] == 31_854 + sent
    assert outcome["contacts"] == 753
    shown = perigee(home, "contact", "show", "user_0001@example.test").stdout
    assert "user_0001" in shown
    ask_as_a_marketer(home)
    sent += go_the_newcomers_way(home)
    second = perigee(home, "demo", "--exit").stdout
    assert "31854 events accepted, 31854 touchpoints stored, 753 contacts" in second
    assert f"{sent} sent" in second
    assert "61 welcome" in second
    assert "where they stand now" in second
    for log in (home / "logs").glob("*.log"):
        assert "example.test" not in log.read_text(), f"personal data in {log.name}"


def go_the_newcomers_way(home):
    """The five commands of docs/plays.md, as they stand there; return how many mails they made."""
    text = (PROJECT / "docs" / "plays.md").read_text()
    script = text.split("```sh\n")[1].split("```")[0]
    assert script.count("\nperigee ") + script.count("\ncurl ") + script.startswith("cat ") == 5
    environment = {
        **clean_environment(home),
        **exports(home),
        "PATH": f"{Path(PERIGEE).parent}:{os.environ['PATH']}",
    }
    said = subprocess.run(
        ["bash", "-euc", script],
        cwd=home,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert said.returncode == 0, said.stdout + said.stderr
    assert "version 1 is live" in said.stdout
    assert "Subject: Ada, was it what you looked for?" in said.stdout
    assert "You took How to light a room." in said.stdout
    return 1


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
    untold = perigee(
        home, "play", "validate", str(PROJECT / "plays" / "hot_prospect_to_sales.yaml"), check=False
    )
    assert (untold.returncode, "no destination 'sales'" in untold.stderr) == (1, True)
    assert "version 1 is live" in said("play", "publish", play)
    assert "Keep it shining" in said("play", "preview", play, "help", "--as", who)
    assert "Keep it shining: delivered" in said(
        "play", "test-send", play, "help", "--as", who, "--to", "me@x.test"
    )
    assert "post_purchase.thanks" in said("contact", "why-not", who)
    impact = {
        one["group"]: one for one in json.loads(said("play", "impact", "abandoned_cart", "--json"))
    }
    assert impact["held out"]["low"] < impact["version 1"]["high"], (
        "nothing was sent yet that could have helped"
    )
    assert "level 4 of 4" in said("play", "maturity")
    for verb in ("pause", "resume"):
        perigee(home, "play", verb, "welcome")
    perigee(home, "switch", "off", "email")
    assert said("switch", "list").split() == ["email"]
    perigee(home, "switch", "on", "email")
    assert "customer, member" in said("segment", "list"), "what is in brackets is shown"
    assert "lamp-guide" in said("content", "coverage", "--all")
    assert "no destination" in said("action", "list", "--status", "held")
    perigee(
        home,
        "event",
        "raise",
        "contract_ends",
        "--who",
        who,
        "--id",
        "e-1",
        "--date",
        "2099-01-01T00:00:00Z",
    )
    assert "e-1" in said("event", "list")
    perigee(home, "event", "withdraw", "e-1")
    assert "orphans" in said("segment", "members")
    assert isinstance(json.loads(said("segment", "members", "orphans", "--json")), list)
    assert "/r/" in said("referral", "code", who)
    assert json.loads(said("referral", "list", "--json")) == []
    missing = perigee(home, "contact", "allow", who, check=False)
    assert (missing.returncode, "not suppressed" in missing.stderr) == (1, True)
    pair = next(one for one in json.loads(said("audience", "list", "--json")) if one["contacts"])
    exported = said("audience", "export", pair["fell_from"], pair["never_reached"])
    assert exported.startswith("contact_id,user_id,email_sha256")
