"""Operators' routes on a running instance: keys, status, quarantine, replays and statistics."""

import asyncio
import json

import httpx2
import pytest
from typer.testing import CliRunner

from cli.home import PROJECT
from cli.idle_detection import IdleDetector
from cli.main import app
from tests.support.instance import PLAYS

pytestmark = pytest.mark.timeout(240)
CALLS = [
    {"type": "identify", "userId": "ada", "messageId": "1", "traits": {"email": "ada@x.test"}},
    {"type": "track", "event": "Order Completed", "userId": "ada", "messageId": "2"},
]
CYCLE = (PROJECT / "cycles" / "engagement.yaml").read_text()
QUARANTINED = (
    "INSERT INTO scoring.outbox (shard, topic, key, value, headers, refused) "
    "VALUES (0, 'signals', 'k', $1, '\\x90', 'MessageSizeTooLarge') RETURNING id"
)
VALUE = b'{"workspace": "default", "note": "not too large"}'


class Operator:
    """HTTP client with the admin key, and the command line of the same instance."""

    def __init__(self, instance, monkeypatch):
        self.instance = instance
        self.environment = instance.environment
        headers = {"Authorization": f"Bearer {self.environment['PERIGEE_ADMIN_KEY']}"}
        self.client = httpx2.Client(headers=headers, trust_env=False, timeout=60)
        monkeypatch.setenv("PERIGEE_HOME", self.environment["PERIGEE_HOME"])
        monkeypatch.setenv("PERIGEE_WORKSPACE", "default")  # `--workspace` changes it in-process

    def ask(self, service, method, path, body=None, **headers):
        response = self.client.request(
            method, self.environment[service] + path, json=body, headers=headers
        )
        return response.status_code, response.json() if response.content else None

    def command(self, *arguments, code=0):
        outcome = CliRunner().invoke(app, list(arguments))
        assert outcome.exit_code == code, (arguments, outcome.output)
        return outcome.output


@pytest.fixture
def operator(instance, monkeypatch):
    return Operator(instance, monkeypatch)


@pytest.fixture
def history(instance):
    async def send():
        await instance.send(await instance.create_source("shop"), CALLS)
        await instance.wait_until_idle()

    asyncio.run(send())


def test_workspaces_and_keys_are_created_rotated_and_revoked(operator):
    workspaces = "/admin/v1/workspaces"
    assert operator.ask("INGEST_URL", "POST", workspaces, {"name": "acme"})[0] == 201
    assert operator.ask("INGEST_URL", "POST", workspaces, {"name": "acme"})[0] == 409
    assert "acme" in operator.command("workspace", "list")
    acme = {"Perigee-Workspace": "acme"}
    _, created = operator.ask(
        "INGEST_URL", "POST", "/admin/v1/keys", {"name": "ops/eu", "kind": "admin"}, **acme
    )
    status, _ = operator.ask(
        "INGEST_URL", "GET", "/admin/v1/sources", Authorization=f"Bearer {created['key']}"
    )
    assert status == 200
    path = "/admin/v1/keys/ops%2Feu"

    code, rotated = operator.ask("INGEST_URL", "POST", f"{path}/rotate", {"overlap": "0s"}, **acme)

    assert (code, rotated["key"] != created["key"]) == (201, True)
    status, _ = operator.ask(
        "INGEST_URL", "GET", "/admin/v1/sources", Authorization=f"Bearer {created['key']}"
    )
    assert status == 401
    listed = json.loads(operator.command("--workspace", "acme", "key", "list", "--json"))
    assert [key["name"] for key in listed] == ["ops/eu"]
    assert operator.ask("INGEST_URL", "DELETE", path, **acme) == (200, {"revoked": 1})
    assert operator.ask("INGEST_URL", "DELETE", path, **acme)[0] == 404
    invalid = {"name": "bi", "kind": "service", "scopes": ["sources"]}
    assert operator.ask("INGEST_URL", "POST", "/admin/v1/keys", invalid)[0] == 422


def test_quarantined_message_is_shown_skipped_and_resent(operator, instance):
    ((row,),) = asyncio.run(instance.fetch(QUARANTINED, VALUE))
    url = f"/admin/v1/scoring/outbox/{row}"

    (listed,) = operator.ask("SCORING_URL", "GET", "/admin/v1/scoring/outbox")[1]

    assert (listed["id"], listed["error"], listed["behind"]) == (row, "MessageSizeTooLarge", 0)
    assert operator.ask("SCORING_URL", "GET", "/admin/v1/scoring/status")[1]["problems"] == {
        "refused outbox rows": 1,
        "fold errors": 0,
    }
    assert any(
        "refused outbox rows" in line for line in operator.command("doctor", code=1).splitlines()
    )
    assert "not too large" in operator.command("outbox", "show", str(row))
    assert operator.ask("SCORING_URL", "POST", f"{url}/skip")[0] == 204
    assert "skipped" in operator.command("outbox", "list")
    assert "goes out again" in operator.command("outbox", "resend", str(row))
    assert operator.ask("SCORING_URL", "GET", "/admin/v1/scoring/outbox/987654321")[0] == 404
    assert "refused nothing" in operator.command("outbox", "list", "--service", "orchestrator")


def test_instance_is_idle_after_two_equal_looks(operator, history, instance):
    detector = IdleDetector(operator.environment)
    assert detector.look() == ["a second look"]
    assert detector.look() == []
    queue = "INSERT INTO scoring.refolds (contact_id, reason) VALUES ('nobody', 'fold_error')"
    asyncio.run(instance.fetch(queue))

    assert detector.look() == ["1 queued re-folds"]

    code, problem = operator.ask("SCORING_URL", "POST", "/admin/v1/replay-check", {"timeout": 0})
    assert (code, "1 queued re-folds" in problem["detail"]) == (409, True)
    assert detector.look(ignore=("queued re-folds",)) == ["a second look"]


def test_replay_check_and_backtest_run_beside_service(operator, history, tmp_path):
    cycles = "/admin/v1/cycles"
    changed = CYCLE.replace('version: "1"', 'version: "2"').replace(
        "half_life: 7d", "half_life: 9d"
    )
    (tmp_path / "cycle.yaml").write_text(changed)

    code, outcome = operator.ask("SCORING_URL", "POST", "/admin/v1/replay-check", {})
    _, result = operator.ask("SCORING_URL", "POST", f"{cycles}/backtest", {"text": changed})

    assert (code, outcome["equal"], outcome["touchpoints"]) == (200, True, 2)
    assert (result["people"], result["touchpoints"]) == (1, 2)
    _, checked = operator.ask("SCORING_URL", "POST", f"{cycles}/validate", {"text": changed})
    assert (checked["cycle"], checked["version"]) == ("engagement", "2")
    _, diff = operator.ask("SCORING_URL", "POST", f"{cycles}/diff", {"text": changed})
    assert any("7d -> 9d" in line for line in diff["differences"])
    assert "valid" in operator.command("cycle", "validate", str(tmp_path / "cycle.yaml"))
    broken = {"text": "cycle: x", "where": "mine.yaml"}
    for route in ("validate", "diff", "backtest"):
        code, problem = operator.ask("SCORING_URL", "POST", f"{cycles}/{route}", broken)
        assert (code, "mine.yaml" in problem["detail"]) == (422, True), route


def test_statistics_and_timeline_show_touchpoints(operator, history):
    _, scoring = operator.ask("SCORING_URL", "GET", "/v1/statistics")
    _, orchestrator = operator.ask("ORCHESTRATOR_URL", "GET", "/admin/v1/orchestrator/statistics")
    _, timeline = operator.ask("SCORING_URL", "GET", "/v1/contacts/user_id:ada/timeline?limit=1")

    assert scoring["sources"]["shop"] == {"touchpoints": 2, "contacts": 1}
    assert sum(cell["contacts"] for cell in scoring["positions"]["engagement"]) == 1
    assert orchestrator.keys() == {"plays", "actions", "deliveries"}
    assert (timeline["touchpoint_count"], len(timeline["touchpoints"])) == (2, 1)
    assert timeline["touchpoints"][0]["name"] == "Order Completed"
    moves = timeline["cycles"]["engagement"]["moves"]
    assert (len(moves), moves[0]["cause"]) == (1, "Order Completed")
    contact_page = operator.command("contact", "show", "ada@x.test")
    assert "Order Completed" in contact_page


def test_play_is_simulated_and_its_schema_shown(operator, history):
    text = (PLAYS / "welcome.yaml").read_text()
    body = {"text": text, "since": 0, "until": 1 << 52, "limit": 5}

    code, result = operator.ask("ORCHESTRATOR_URL", "POST", "/admin/v1/plays/simulate", body)

    assert (code, result["total"], result["happened"]) == (200, 0, [])
    backwards = {**body, "since": 2, "until": 1}
    assert operator.ask("ORCHESTRATOR_URL", "POST", "/admin/v1/plays/simulate", backwards)[0] == 422
    _, schema = operator.ask("ORCHESTRATOR_URL", "GET", "/admin/v1/schemas/play")
    assert schema == json.loads((PROJECT / "docs" / "schemas" / "play.json").read_text())
    assert operator.ask("ORCHESTRATOR_URL", "GET", "/admin/v1/schemas/cycle")[0] == 422
    code, tracker = operator.ask("INGEST_URL", "GET", "/admin/v1/tracker?url=https://door.test")
    assert (code, 'src="https://door.test/perigee-' in tracker["html"]) == (200, True)
    assert operator.ask("INGEST_URL", "GET", '/admin/v1/tracker?url=https://a"b')[0] == 422
