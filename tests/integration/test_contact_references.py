"""Every kind of reference finds its contact, in every route and every command."""

import asyncio
import json
import os
from urllib.parse import quote

import httpx2
import pytest
from typer.testing import CliRunner

from cli.main import app
from cli.preparation import put_source
from libs.common.db.connection import connect
from services.orchestrator.repository import contact_lookup
from services.scoring.repository import contacts
from tests.support.instance import PLAYS

pytestmark = pytest.mark.timeout(300)
PLAY = PLAYS / "welcome.yaml"
ALICE = [
    "alice",
    "user_id:alice",
    "old-alice",
    "user_id:old-alice",
    "device-1",
    "anonymous_id:device-1",
    "7",
    "external:crm:7",
    "alice@x.test",
    "Alice@X.test",
    "email:alice@x.test",
]
"""References of one contact: user ids, device, external id, verified address.

Its contact ids are added.
"""
BOB = ["bob/1", "user_id:bob/1", "bob@x.test", "BOB@X.test", "email:bob@x.test"]
"""References of a contact whose address is a trait alone, and whose user id has a slash."""
GET_ROUTES = [
    ("SCORING_URL", "/v1/contacts/{}"),
    ("SCORING_URL", "/v1/contacts/{}/explain"),
    ("SCORING_URL", "/v1/contacts/{}/timeline"),
    ("SCORING_URL", "/admin/v1/identities/{}"),
    ("SCORING_URL", "/v1/compelling-events?who={}"),
    ("ORCHESTRATOR_URL", "/admin/v1/why/{}"),
    ("ORCHESTRATOR_URL", "/v1/next?who={}"),
]
BY = {"author": "tester"}
POST_ROUTES = [
    ("SCORING_URL", "/v1/compelling-events", "who", {"kind": "renewal"}),
    ("SCORING_URL", "/admin/v1/corrections/touchpoints", "who", {"kind": "human", **BY}),
    (
        "SCORING_URL",
        "/admin/v1/corrections/stage",
        "who",
        {"cycle": "engagement", "places": {"sales": "won"}, **BY},
    ),
    ("SCORING_URL", "/admin/v1/identities/merge", "one", {"other": "user_id:carol", **BY}),
    ("SCORING_URL", "/admin/v1/identities/unmerge", "one", {"other": "user_id:carol", **BY}),
    ("ORCHESTRATOR_URL", "/admin/v1/referrals/codes", "who", {}),
    (
        "ORCHESTRATOR_URL",
        "/admin/v1/plays/preview",
        "who",
        {"text": PLAY.read_text(), "action": "welcome_mail"},
    ),
]
COMMANDS = [
    ["contact", "show", "{}"],
    ["contact", "explain", "{}", "--json"],
    ["contact", "why-not", "{}", "--json"],
    ["identity", "show", "{}", "--json"],
    ["correct", "human", "{}"],
    ["correct", "stage", "{}", "--set", "sales=won"],
    ["event", "raise", "renewal", "--who", "{}"],
    ["event", "list", "--who", "{}"],
    ["referral", "code", "{}"],
    ["play", "preview", str(PLAY), "welcome_mail", "--as", "{}"],
]
CALLS = [
    {
        "type": "identify",
        "userId": "alice",
        "anonymousId": "device-1",
        "traits": {"email": "Alice@X.test", "email_verified": True},
        "context": {"externalIds": [{"type": "crm", "id": "7"}]},
    },
    {"type": "track", "event": "Order Completed", "userId": "old-alice"},
    {"type": "identify", "userId": "bob/1", "traits": {"email": "bob@x.test"}},
    {"type": "track", "event": "Order Completed", "userId": "carol"},
]


class ReferencedContacts:
    """Two contacts, one of them merged, and a client that looks them up."""

    def __init__(self, instance):
        environment = instance.environment
        self.environment = environment
        self.client = httpx2.Client(
            headers={"Authorization": f"Bearer {environment['PERIGEE_ADMIN_KEY']}"},
            trust_env=False,
            timeout=30,
        )
        merged_ids = {
            self.get("SCORING_URL", f"/v1/contacts/{name}")["contact_id"]
            for name in ("alice", "old-alice")
        }
        merge = {"one": "user_id:alice", "other": "user_id:old-alice", **BY}
        response = self.client.post(
            f"{environment['SCORING_URL']}/admin/v1/identities/merge", json=merge
        )
        (self.alice,) = response.json()["contacts"]
        self.bob = self.get("SCORING_URL", f"/v1/contacts/{quote('bob/1', safe='')}")["contact_id"]
        self.references = [(name, self.alice) for name in [*ALICE, *merged_ids, self.alice]]
        self.references += [(name, self.bob) for name in [*BOB, self.bob]]

    def get(self, service, path):
        response = self.client.get(self.environment[service] + path)
        assert response.status_code == 200, (path, response.text)
        return response.json()


@pytest.fixture
def referenced(instance):
    async def prepare():
        await put_source(instance.environment, "crm", "key-of-crm", "server")
        key = await instance.create_source("crm")
        await instance.send(key, [{**call, "messageId": str(n)} for n, call in enumerate(CALLS)])
        await instance.wait_until_idle()

    asyncio.run(prepare())
    return ReferencedContacts(instance)


def test_route_accepts_each_reference_kind(referenced):
    for reference, contact in referenced.references:
        for service, path in GET_ROUTES:
            result = referenced.get(service, path.format(quote(reference, safe="")))
            if isinstance(result, dict) and "contact_id" in result:
                assert result["contact_id"] == contact, (path, reference)
        for service, path, field, body in POST_ROUTES:
            url = referenced.environment[service] + path
            response = referenced.client.post(url, json={**body, field: reference})
            # 409: another reference has merged or unmerged the two before.
            assert response.status_code in (200, 201, 409), (path, reference, response.text)
        path = f"/admin/v1/suppressions/{quote(reference, safe='')}/email"
        response = referenced.client.delete(referenced.environment["ORCHESTRATOR_URL"] + path)
        assert "is not suppressed on email" in response.text, (reference, response.text)


def test_command_accepts_each_reference_kind(referenced, monkeypatch):
    monkeypatch.setenv("PERIGEE_HOME", referenced.environment["PERIGEE_HOME"])
    runner = CliRunner()

    for reference, contact in referenced.references:
        for command in COMMANDS:
            outcome = runner.invoke(app, [part.format(reference) for part in command])
            assert outcome.exit_code == 0, (command, reference, outcome.output)
            if "--json" in command:
                assert json.loads(outcome.stdout)["contact_id"] == contact, (command, reference)
        outcome = runner.invoke(app, ["contact", "allow", reference])
        assert "is not suppressed" in outcome.output, (reference, outcome.output)
    assert os.environ["PERIGEE_HOME"]


def test_unknown_reference_has_no_contact(referenced):
    async def look_up(reference):
        connection = await connect(referenced.environment["DATABASE_URL"], application="test")
        try:
            return [
                await module.find_contact(connection, workspace, reference)
                for module in (contacts, contact_lookup)
                for workspace in ("default", "other")
            ]
        finally:
            await connection.close()

    for reference in ("", "nobody", "anonymous_id:alice", "user_id:device-1", "x@x.test", "email:"):
        assert asyncio.run(look_up(reference)) == [None] * 4, reference
    assert asyncio.run(look_up("alice")) == [referenced.alice, None] * 2
