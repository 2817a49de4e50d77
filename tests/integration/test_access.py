"""Keys and workspaces: each key on every route, and no workspace sees another's data."""

import re

import httpx2
import pytest

from libs.common.api_keys import INSTANCE_SCOPES, READ_SCOPES, WORKSPACE_SCOPES
from libs.common.db import api_keys
from libs.common.db.api_keys import DatabaseKeyStore
from libs.common.db.connection import Session
from libs.common.errors import ConfigurationError, Conflict, NotFound
from tests.integration.admin_routes import ROUTES
from tests.integration.workspace_keys import make_keys


async def status(client, route, key, **headers):
    method, _, path = route.partition(" ")
    url = re.sub(r"\{(partition|offset)\}", "0", path)
    url = re.sub(r"\{content\}", "0" * 64, re.sub(r"\{topic\}", "scoring-dlq", url))
    url = re.sub(r"\{\w+\}", "nobody", url)
    if key is not None:
        headers["Authorization"] = f"Bearer {key}"
    body = {} if method in ("POST", "PATCH") else None
    async with client.stream(method, url, headers=headers, json=body) as response:
        return response.status_code


def documented(document):
    """Yield each route of an OpenAPI document with the scopes that it names."""
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            scopes = {
                scope
                for need in operation.get("security", [])
                for scopes_of_need in need.values()
                for scope in scopes_of_need
            }
            yield f"{method.upper()} {path}", scopes


async def test_route_requires_its_scope(instance, database):
    keys = await make_keys(database)
    environment = instance.environment
    scopes_of_key = {
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
    valid_keys = {
        environment["PERIGEE_ADMIN_KEY"],
        environment["PERIGEE_SERVICE_KEY"],
        *keys.values(),
    } - {keys["ended"]}
    pairs = 0
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
                for key, scopes in scopes_of_key.items():
                    status_code = await status(client, route, key)
                    expected = (
                        401 if key not in valid_keys else 403 if scope not in scopes else None
                    )
                    assert status_code == expected or (
                        expected is None and status_code not in (401, 403)
                    ), (
                        route,
                        key,
                        status_code,
                    )
                    pairs += 1
    async with httpx2.AsyncClient(base_url=instance.ingest_url, trust_env=False) as client:
        for key in (keys["admin"], keys["service"], environment["PERIGEE_ADMIN_KEY"]):
            response = await client.post(
                "/v1/track", json={"event": "x", "userId": "u"}, auth=(key, "")
            )
            assert response.status_code == 401
    print(f"{pairs} pairs of route and key")


async def test_keys_rotate_expire_and_record_last_use(connection, database):
    session = Session(database, "test")
    first_key = await api_keys.insert_key(
        connection, "default", "crm", "service", ("contacts:read",)
    )

    keys = DatabaseKeyStore(session, "root", "")

    assert (await keys.authenticate(first_key, None)).scopes == {"contacts:read"}

    (key_row,) = await api_keys.list_keys(connection, "default")
    assert (key_row.hint, key_row.last_used_at is None, first_key in str(key_row)) == (
        first_key[:8],
        False,
        False,
    )

    second_key = await api_keys.insert_rotated_key(connection, "default", "crm", 60)
    assert [(await keys.authenticate(key, None)) is None for key in (first_key, second_key)] == [
        False,
        False,
    ]
    assert await api_keys.update_key_ends(connection, "default", "crm", 0, first_key[:8]) == 1
    assert [(await keys.authenticate(key, None)) is None for key in (first_key, second_key)] == [
        True,
        False,
    ]
    assert await keys.authenticate(second_key, "default") is not None
    assert (await keys.authenticate("root", None)).has_scope("cycles")

    rows = await connection.fetch("SELECT row_to_json(k)::text FROM access.keys k")
    assert not any(first_key in r[0] or second_key in r[0] for r in rows)
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
