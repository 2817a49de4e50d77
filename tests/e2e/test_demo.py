"""`perigee demo`: its figures; a second run adds nothing."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from cli.home import PROJECT
from tests.e2e.perigee_command import PERIGEE, clean_environment, exports, perigee

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
    perigee(tmp_path, "down", check=False)  # also after a failure


def test_second_demo_adds_nothing(home):
    first = json.loads(perigee(home, "demo", "--json").stdout)

    assert first["events_accepted"] == first["touchpoints_stored"] == 31_854
    assert first["contacts"] == 753
    assert all(list(first[name]) == keys for name, keys in KEYS.items())
    assert all(first["stage_changes"].values()), first

    sent = first["plays"]["welcome"] + first["plays"]["post_purchase"]
    assert first["plays"]["welcome"] == 61
    assert len(first["plays"]) >= 7

    held_actions, retargeted = first["actions"].pop("held"), first["plays"]["retargeting"]
    # No audience destination exists yet: additions to an audience wait, and so do removals since.
    assert held_actions - first["plays"]["hot_prospect_to_sales"] in range(
        retargeted, 2 * retargeted + 1
    )
    assert {name: count for name, count in first["actions"].items() if count} == {"sent": sent}
    assert first["deliveries"] == {**dict.fromkeys(KEYS["deliveries"], 0), "delivered": sent}
    assert len(list((home / "mail").glob("*.eml"))) == sent

    outcome = json.loads(perigee(home, "replay-check", "--json").stdout)
    assert outcome["equal"], outcome
    assert outcome["touchpoints"] == 31_854 + sent
    assert outcome["contacts"] == 753

    contact_page = perigee(home, "contact", "show", "user_0001@example.test").stdout
    assert "user_0001" in contact_page

    run_marketer_commands(home)
    sent += run_newcomer_commands(home)
    second = perigee(home, "demo", "--exit").stdout

    assert "31854 events accepted, 31854 touchpoints stored, 753 contacts" in second
    assert f"{sent} sent" in second
    assert "61 welcome" in second
    assert "contacts by position" in second
    for log in (home / "logs").glob("*.log"):
        assert "example.test" not in log.read_text(), f"personal data in {log.name}"


def run_newcomer_commands(home):
    """Run the five commands of docs/plays.md; return the number of mails they sent."""
    text = (PROJECT / "docs" / "plays.md").read_text()
    script = text.split("```sh\n")[1].split("```")[0]
    assert script.count("\nperigee ") + script.count("\ncurl ") + script.startswith("cat ") == 5
    environment = {
        **clean_environment(home),
        **exports(home),
        "PATH": f"{Path(PERIGEE).parent}:{os.environ['PATH']}",
    }
    completed = subprocess.run(
        ["bash", "-euc", script],
        cwd=home,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert completed.returncode == 0, completed.stdout + completed.stderr
    assert "version 1 is live" in completed.stdout
    assert "Subject: Ada, was it what you looked for?" in completed.stdout
    assert "You took How to light a room." in completed.stdout
    return 1


def run_marketer_commands(home):
    """Run every command of the plays on the demo's data."""

    def output(*arguments):
        return perigee(home, *arguments, COLUMNS="200").stdout

    play = str(PROJECT / "plays" / "post_purchase.yaml")
    days = json.loads(output("play", "simulate", play, "--since", "20d", "--json"))
    assert sum(day.get("entered", 0) for day in days["days"]) > 50
    assert "all" in output("play", "simulate", str(PROJECT / "plays" / "quote_without_answer.yaml"))
    contact = next(entry["contact"] for entry in days["happened"] if entry["what"] == "sent")
    assert "stage change direction regression" in output("play", "list")
    assert "valid" in output("play", "validate", play)
    refused = perigee(
        home, "play", "validate", str(PROJECT / "plays" / "hot_prospect_to_sales.yaml"), check=False
    )
    assert (refused.returncode, "no destination 'sales'" in refused.stderr) == (1, True)
    assert "version 1 is live" in output("play", "publish", play)
    assert "Keep it shining" in output("play", "preview", play, "help", "--as", contact)
    assert "Keep it shining: delivered" in output(
        "play", "test-send", play, "help", "--as", contact, "--to", "me@x.test"
    )
    assert "post_purchase.thanks" in output("contact", "why-not", contact)
    impact = {
        entry["group"]: entry
        for entry in json.loads(output("play", "impact", "abandoned_cart", "--json"))
    }
    assert impact["held out"]["low"] < impact["version 1"]["high"], (
        "the impact intervals are apart before any mail"
    )
    assert "level 4 of 4" in output("play", "maturity")
    for verb in ("pause", "resume"):
        perigee(home, "play", verb, "welcome")
    perigee(home, "switch", "off", "email")
    assert output("switch", "list").split() == ["email"]
    perigee(home, "switch", "on", "email")
    assert "customer, member" in output("segment", "list"), "a list in brackets is hidden"
    assert "lamp-guide" in output("content", "coverage", "--all")
    assert "no destination" in output("action", "list", "--status", "held")
    perigee(
        home,
        "event",
        "raise",
        "contract_ends",
        "--who",
        contact,
        "--id",
        "e-1",
        "--date",
        "2099-01-01T00:00:00Z",
    )
    assert "e-1" in output("event", "list")
    perigee(home, "event", "withdraw", "e-1")
    assert "orphans" in output("segment", "members")
    assert isinstance(json.loads(output("segment", "members", "orphans", "--json")), list)
    assert "/r/" in output("referral", "code", contact)
    assert json.loads(output("referral", "list", "--json")) == []
    missing = perigee(home, "contact", "allow", contact, check=False)
    assert (missing.returncode, "not suppressed" in missing.stderr) == (1, True)
    pair = next(
        entry for entry in json.loads(output("audience", "list", "--json")) if entry["contacts"]
    )
    exported = output("audience", "export", pair["fell_from"], pair["never_reached"])
    assert exported.startswith("contact_id,user_id,email_sha256")
