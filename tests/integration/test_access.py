"""Keys and workspaces: what each key opens, on every route that there is, and what one workspace sees of another: nothing."""

import re

import httpx2
import pytest

from libs.common.api_keys import INSTANCE_SCOPES, READ_SCOPES, WORKSPACE_SCOPES
from libs.common.db import api_keys
from libs.common.db.api_keys import DatabaseKeyStore
from libs.common.db.connection import Session
from libs.common.errors import ConfigurationError, Conflict, NotFound


def operations(service):
    """The routes of the scope `operations` that every service with an outbox has."""
    prefix = f"/admin/v1/{service}"
    return [
        f"GET {prefix}/status",
        f"GET {prefix}/outbox",
        f"GET {prefix}/outbox/{{row}}",
        f"POST {prefix}/outbox/{{row}}/resend",
        f"POST {prefix}/outbox/{{row}}/skip",
    ]


ROUTES = {
    "INGEST_URL": {
        "sources": ["GET /admin/v1/sources", "POST /admin/v1/sources", "PATCH /admin/v1/sources/{name}",
                    "POST /admin/v1/sources/{name}/keys", "DELETE /admin/v1/sources/{name}/keys", "GET /admin/v1/tracker"],
        "imports": ["GET /admin/v1/imports", "POST /admin/v1/imports", "GET /admin/v1/imports/{content}",
                    "GET /admin/v1/imports/{content}/rejects"],
        "access": ["GET /admin/v1/workspaces", "POST /admin/v1/workspaces", "GET /admin/v1/keys", "POST /admin/v1/keys",
                   "POST /admin/v1/keys/{name}/rotate", "DELETE /admin/v1/keys/{name}"],
        "dlq": ["GET /admin/v1/dlq", "GET /admin/v1/dlq/{topic}/{partition}/{offset}", "POST /admin/v1/dlq/replay",
                "POST /admin/v1/dlq/drop"],
        "live": ["GET /admin/v1/live"],
    },
    "SCORING_URL": {
        "contacts:read": ["GET /v1/contacts/{who}", "GET /v1/contacts/{who}/explain", "GET /v1/contacts/{who}/timeline",
                          "GET /v1/statistics", "GET /v1/compelling-events"],
        "events": ["POST /v1/compelling-events", "PATCH /v1/compelling-events/{event_id}",
                   "DELETE /v1/compelling-events/{event_id}"],
        "stage_changes:read": ["GET /v1/stage-changes"],
        "identities": ["GET /admin/v1/identities/{who}", "POST /admin/v1/identities/merge",
                       "POST /admin/v1/identities/unmerge"],
        "corrections": ["POST /admin/v1/corrections/touchpoints", "POST /admin/v1/corrections/stage"],
        "refolds": ["GET /admin/v1/refolds"],
        "operations": [*operations("scoring"), "POST /admin/v1/replay-check"],
        "cycles": ["GET /admin/v1/cycles", "GET /admin/v1/cycles/{cycle}", "POST /admin/v1/cycles/validate",
                   "POST /admin/v1/cycles/diff", "POST /admin/v1/cycles/backtest", "POST /admin/v1/cycles/draft",
                   "POST /admin/v1/cycles/publish", "POST /admin/v1/cycles/{cycle}/rollback"],
    },
    "ORCHESTRATOR_URL": {
        "subscriptions": ["GET /admin/v1/subscriptions", "POST /admin/v1/subscriptions",
                          "GET /admin/v1/subscriptions/{name}", "PATCH /admin/v1/subscriptions/{name}",
                          "DELETE /admin/v1/subscriptions/{name}", "POST /admin/v1/subscriptions/{name}/pause",
                          "POST /admin/v1/subscriptions/{name}/resume", "POST /admin/v1/subscriptions/{name}/secret",
                          "POST /admin/v1/subscriptions/{name}/resend"],
        "plays": ["GET /admin/v1/plays", "POST /admin/v1/plays", "POST /admin/v1/plays/check",
                  "POST /admin/v1/plays/preview", "POST /admin/v1/plays/simulate", "GET /admin/v1/orchestrator/statistics",
                  "GET /admin/v1/schemas/{kind}", "GET /admin/v1/plays/{name}", "POST /admin/v1/plays/{name}/pause",
                  "POST /admin/v1/plays/{name}/resume", "POST /admin/v1/plays/{name}/rollback",
                  "GET /admin/v1/plays/{name}/impact", "GET /admin/v1/definitions", "POST /admin/v1/definitions/{kind}",
                  "DELETE /admin/v1/definitions/{kind}/{name}", "GET /admin/v1/switches", "POST /admin/v1/switches",
                  "DELETE /admin/v1/switches/{channel}", "GET /admin/v1/why/{who}", "GET /admin/v1/actions",
                  "POST /admin/v1/actions/{action_id}", "GET /admin/v1/coverage", "GET /admin/v1/maturity",
                  "GET /admin/v1/audiences", "GET /admin/v1/audiences/{fell_from}/{never_reached}",
                  "DELETE /admin/v1/suppressions/{who}/{channel}", "GET /admin/v1/referrals",
                  "POST /admin/v1/referrals/codes", "GET /admin/v1/segments", "GET /admin/v1/segments/{name}/members"],
        "contacts:read": ["GET /v1/next"],
        "operations": operations("orchestrator"),
    },
}  # fmt: skip
"""Which scope opens which route. A route that is not here fails the test."""
OPEN = {"/u/{token}", "/r/{code}", "/v1/me/next"}
"""Open to whoever has the link, or a write key."""


async def make_keys(database):
    session = Session(database, "test")
    async with session.acquire() as connection:
        await api_keys.insert_workspace(connection, "other")
        made = {
            "service": await api_keys.insert_key(connection, "default", "crm", "service"),
            "contacts": await api_keys.insert_key(
                connection, "default", "bi", "service", ("contacts:read",)
            ),
            "admin": await api_keys.insert_key(connection, "default", "ops", "admin"),
            "other-service": await api_keys.insert_key(connection, "other", "crm", "service"),
            "other-admin": await api_keys.insert_key(connection, "other", "ops", "admin"),
        }
        ended = await api_keys.insert_key(connection, "default", "gone", "admin")
        await api_keys.update_key_ends(connection, "default", "gone", 0)
    await session.close()
    return {**made, "ended": ended}


async def status(client, route, key, **headers):
    method, _, path = route.partition(" ")
    url = re.sub(r"\{(partition|offset)\}", "0", path)
    url = re.sub(r"\{content\}", "0" * 64, re.sub(r"\{topic\}", "scoring-dlq", url))
    url = re.sub(r"\{\w+\}", "nobody", url)
    if key is not None:
        headers["Authorization"] = f"Bearer {key}"
    body = {} if method in ("POST", "PATCH") else None
    async with client.stream(method, url, headers=headers, json=body) as answer:
        return answer.status_code


def documented(document):
    """The routes of an OpenAPI document with the scopes that each names."""
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            scopes = {
                scope
                for need in operation.get("security", [])
                for found in need.values()
                for scope in found
            }
            yield f"{method.upper()} {path}", scopes


async def test_every_route_opens_to_the_keys_that_have_its_scope_and_to_no_other(
    instance, database
):
    keys = await make_keys(database)
    environment = instance.environment
    opens = {
        None: set(),
        "wrong": set(),
        environment["WRITE_KEY"]: set(),
        keys["ended"]: set(),
        "?": set(),
        environment["PERIGEE_ADMIN_KEY"]: {*WORKSPACE_SCOPES, *INSTANCE_SCOPES},
        environment["PERIGEE_SERVICE_KEY"]: set(READ_SCOPES),
        keys["admin"]: {*WORKSPACE_SCOPES, *INSTANCE_SCOPES},
        keys["other-admin"]: set(WORKSPACE_SCOPES),
        keys["service"]: set(READ_SCOPES),
        keys["other-service"]: set(READ_SCOPES),
        keys["contacts"]: {"contacts:read"},
    }
    known = {
        environment["PERIGEE_ADMIN_KEY"],
        environment["PERIGEE_SERVICE_KEY"],
        *keys.values(),
    } - {keys["ended"]}
    asked = 0
    for service, by_scope in ROUTES.items():
        async with httpx2.AsyncClient(
            base_url=environment[service], trust_env=False, timeout=30
        ) as client:
            document = (await client.get("/openapi.json")).json()
            listed = {route: {scope} for scope, routes in by_scope.items() for route in routes}
            assert dict(documented(document)) == listed, (
                "a route without its line in ROUTES, or with another scope"
            )
            for route, (scope,) in listed.items():
                for key, scopes in opens.items():
                    found = await status(client, route, key)
                    wanted = 401 if key not in known else 403 if scope not in scopes else None
                    assert found == wanted or (wanted is None and found not in (401, 403)), (
                        route,
                        key,
                        found,
                    )
                    asked += 1
    async with httpx2.AsyncClient(base_url=instance.ingest_url, trust_env=False) as client:
        for key in (keys["admin"], keys["service"], environment["PERIGEE_ADMIN_KEY"]):
            answer = await client.post(
                "/v1/track", json={"event": "x", "userId": "u"}, auth=(key, "")
            )
            assert answer.status_code == 401
    print(f"{asked} pairs of route and key")


async def test_one_workspace_sees_nothing_of_another(instance, database):
    keys = await make_keys(database)
    await make_contact(instance)
    environment = instance.environment
    root = environment["PERIGEE_ADMIN_KEY"]
    async with httpx2.AsyncClient(trust_env=False, timeout=30) as client:

        async def ask(service, method, path, key, json=None, **headers):
            headers["Authorization"] = f"Bearer {key}"
            answer = await client.request(
                method, environment[service] + path, headers=headers, json=json
            )
            return answer.status_code, answer.json() if answer.content else None

        code, found = await ask("SCORING_URL", "GET", "/v1/contacts/user_id:ada", keys["service"])
        assert (code, found["workspace"]) == (200, "default")
        contact = found["contact_id"]
        _, page = await ask("SCORING_URL", "GET", "/v1/stage-changes", keys["service"])
        assert {item["data"]["contact_id"] for item in page["items"]} == {contact}
        _, page = await ask(
            "SCORING_URL", "GET", "/v1/stage-changes?type=signal", keys["other-service"]
        )
        assert page["items"] == []
        hook = {"name": "crm", "url": "http://127.0.0.1:1/hook"}
        assert (
            await ask("ORCHESTRATOR_URL", "POST", "/admin/v1/subscriptions", keys["admin"], hook)
        )[0] == 201
        event = {"kind": "renewal", "who": "user_id:ada", "event_id": "e-1"}
        assert (await ask("SCORING_URL", "POST", "/v1/compelling-events", keys["admin"], event))[
            0
        ] == 201
        by = {"author": "eve"}
        swapped = [
            ("SCORING_URL", "GET", f"/v1/contacts/{contact}", None),
            ("SCORING_URL", "GET", "/v1/contacts/user_id:ada", None),
            ("SCORING_URL", "GET", "/v1/contacts/ada@x.test", None),
            ("SCORING_URL", "GET", f"/v1/contacts/{contact}/explain", None),
            ("SCORING_URL", "GET", f"/v1/contacts/{contact}/timeline", None),
            ("SCORING_URL", "GET", f"/admin/v1/identities/{contact}", None),
            ("SCORING_URL", "POST", "/admin/v1/identities/merge", {"one": contact, "other": "user_id:bob", **by}),
            ("SCORING_URL", "POST", "/admin/v1/identities/unmerge", {"one": contact, "other": "user_id:bob", **by}),
            ("SCORING_URL", "POST", "/admin/v1/corrections/touchpoints", {"who": contact, "kind": "bot", **by}),
            ("SCORING_URL", "POST", "/admin/v1/corrections/stage",
             {"who": contact, "cycle": "engagement", "places": {"sales": "won"}, **by}),
            ("SCORING_URL", "POST", "/v1/compelling-events", {"kind": "x", "who": contact}),
            ("SCORING_URL", "GET", f"/v1/compelling-events?who={contact}", None),
            ("SCORING_URL", "PATCH", "/v1/compelling-events/e-1", {"owner": "eve"}),
            ("SCORING_URL", "DELETE", "/v1/compelling-events/e-1", None),
            ("ORCHESTRATOR_URL", "GET", "/admin/v1/plays/welcome", None),
            ("ORCHESTRATOR_URL", "POST", "/admin/v1/plays/welcome/pause", None),
            ("ORCHESTRATOR_URL", "POST", "/admin/v1/plays/welcome/resume", None),
            ("ORCHESTRATOR_URL", "POST", "/admin/v1/plays/welcome/rollback", {}),
            ("ORCHESTRATOR_URL", "GET", "/admin/v1/plays/welcome/impact", None),
            ("ORCHESTRATOR_URL", "DELETE", "/admin/v1/definitions/segment/buyers", None),
            ("ORCHESTRATOR_URL", "GET", f"/admin/v1/why/{contact}", None),
            ("ORCHESTRATOR_URL", "GET", f"/v1/next?who={contact}", None),
            ("ORCHESTRATOR_URL", "DELETE", f"/admin/v1/suppressions/{contact}/email", None),
            ("ORCHESTRATOR_URL", "POST", "/admin/v1/referrals/codes", {"who": contact}),
            ("INGEST_URL", "PATCH", "/admin/v1/sources/default", {"mode": "test"}),
            ("INGEST_URL", "POST", "/admin/v1/sources/default/keys", {}),
            ("INGEST_URL", "DELETE", "/admin/v1/sources/default/keys", None),
            ("INGEST_URL", "GET", f"/admin/v1/imports/{'0' * 64}/rejects", None),
            ("ORCHESTRATOR_URL", "GET", "/admin/v1/subscriptions/crm", None),
            ("ORCHESTRATOR_URL", "PATCH", "/admin/v1/subscriptions/crm", {}),
            ("ORCHESTRATOR_URL", "DELETE", "/admin/v1/subscriptions/crm", None),
            ("ORCHESTRATOR_URL", "POST", "/admin/v1/subscriptions/crm/pause", None),
            ("ORCHESTRATOR_URL", "POST", "/admin/v1/subscriptions/crm/resume", None),
            ("ORCHESTRATOR_URL", "POST", "/admin/v1/subscriptions/crm/secret", {}),
            ("ORCHESTRATOR_URL", "POST", "/admin/v1/subscriptions/crm/resend", {}),
        ]  # fmt: skip
        for service, method, path, body in swapped:
            assert (await ask(service, method, path, keys["other-admin"], body))[0] == 404, path
            in_other = await ask(
                service, method, path, root, body, **{"Perigee-Workspace": "other"}
            )
            assert in_other[0] == 404, path
        for service, path in (
            ("INGEST_URL", "/admin/v1/sources"),
            ("INGEST_URL", "/admin/v1/imports"),
            ("ORCHESTRATOR_URL", "/admin/v1/subscriptions"),
            ("ORCHESTRATOR_URL", "/admin/v1/plays"),
            ("ORCHESTRATOR_URL", "/admin/v1/definitions"),
            ("ORCHESTRATOR_URL", "/admin/v1/switches"),
            ("ORCHESTRATOR_URL", "/admin/v1/actions"),
            ("SCORING_URL", "/v1/compelling-events"),
        ):
            assert await ask(service, "GET", path, keys["other-admin"]) == (200, [])
        # A key of one workspace cannot name another; one that does not exist is said to be that.
        assert (
            await ask(
                "INGEST_URL",
                "GET",
                "/admin/v1/sources",
                keys["admin"],
                **{"Perigee-Workspace": "other"},
            )
        )[0] == 401
        assert (
            await ask(
                "INGEST_URL", "GET", "/admin/v1/sources", root, **{"Perigee-Workspace": "nope"}
            )
        )[0] == 404
        # The same names are another's own.
        code, made = await ask(
            "INGEST_URL", "POST", "/admin/v1/sources", keys["other-admin"], {"name": "default"}
        )
        assert (code, made["source"]["workspace"]) == (201, "other")
        assert (
            await ask(
                "ORCHESTRATOR_URL", "POST", "/admin/v1/subscriptions", keys["other-admin"], hook
            )
        )[0] == 201


async def make_contact(instance):
    """A contact of the default workspace, folded and published."""
    calls = [
        {"type": "identify", "userId": "ada", "messageId": "1", "traits": {"email": "ada@x.test"}},
        {"type": "track", "event": "Order Completed", "userId": "ada", "messageId": "2"},
        {"type": "track", "event": "Order Completed", "userId": "bob", "messageId": "3"},
    ]
    key = await instance.create_source("shop")
    await instance.send(key, calls[:2])
    await instance.wait_until_idle()


async def test_keys_rotate_end_and_remember_when_they_were_used(connection, database):
    session = Session(database, "test")
    first = await api_keys.insert_key(connection, "default", "crm", "service", ("contacts:read",))
    keys = DatabaseKeyStore(session, "root", "")
    assert (await keys.authenticate(first, None)).scopes == {"contacts:read"}
    (shown,) = await api_keys.list_keys(connection, "default")
    assert (shown.hint, shown.last_used_at is None, first in str(shown)) == (
        first[:8],
        False,
        False,
    )
    second = await api_keys.insert_rotated_key(connection, "default", "crm", 60)
    assert [(await keys.authenticate(key, None)) is None for key in (first, second)] == [
        False,
        False,
    ]
    assert await api_keys.update_key_ends(connection, "default", "crm", 0, first[:8]) == 1
    assert [(await keys.authenticate(key, None)) is None for key in (first, second)] == [
        True,
        False,
    ]
    assert await keys.authenticate(second, "default") is not None
    assert (await keys.authenticate("root", None)).has_scope("cycles")
    rows = await connection.fetch("SELECT row_to_json(k)::text FROM access.keys k")
    assert not any(first in r[0] or second in r[0] for r in rows)
    with pytest.raises(NotFound, match="no valid key named"):
        await api_keys.insert_rotated_key(connection, "default", "nope", 0)
    with pytest.raises(NotFound, match="no workspace"):
        await api_keys.insert_key(connection, "nowhere", "crm", "service")
    with pytest.raises(ConfigurationError, match="no scope 'sources' for service keys"):
        await api_keys.insert_key(connection, "default", "crm", "service", ("sources",))
    with pytest.raises(ConfigurationError, match="1 to 60"):
        await api_keys.insert_key(connection, "default", "", "service")
    await api_keys.insert_workspace(connection, "b-1_x")
    with pytest.raises(ConfigurationError, match="no scope 'cycles' for admin keys of b-1_x"):
        await api_keys.insert_key(connection, "b-1_x", "ops", "admin", ("cycles",))
    with pytest.raises(Conflict, match="already"):
        await api_keys.insert_workspace(connection, "b-1_x")
    for name in ("", "a b", "ä", "x" * 61):
        with pytest.raises(ConfigurationError, match="letters"):
            await api_keys.insert_workspace(connection, name)
    assert await api_keys.list_workspaces(connection) == ["b-1_x", "default"]
    await session.close()
