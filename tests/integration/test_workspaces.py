"""Workspaces: no key of one sees another's data, and names are free in each."""

import httpx2

from tests.integration.workspace_keys import make_keys


async def test_workspace_sees_no_data_of_another(instance, database):
    keys = await make_keys(database)
    await make_contact(instance)
    environment = instance.environment
    root = environment["PERIGEE_ADMIN_KEY"]
    async with httpx2.AsyncClient(trust_env=False, timeout=30) as client:

        async def ask(service, method, path, key, json=None, **headers):
            headers["Authorization"] = f"Bearer {key}"
            response = await client.request(
                method, environment[service] + path, headers=headers, json=json
            )
            return response.status_code, response.json() if response.content else None

        code, contact_view = await ask(
            "SCORING_URL", "GET", "/v1/contacts/user_id:ada", keys["service"]
        )
        assert (code, contact_view["workspace"]) == (200, "default")
        contact = contact_view["contact_id"]
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
        author = {"author": "eve"}
        foreign_requests = [
            ("SCORING_URL", "GET", f"/v1/contacts/{contact}", None),
            ("SCORING_URL", "GET", "/v1/contacts/user_id:ada", None),
            ("SCORING_URL", "GET", "/v1/contacts/ada@x.test", None),
            ("SCORING_URL", "GET", f"/v1/contacts/{contact}/explain", None),
            ("SCORING_URL", "GET", f"/v1/contacts/{contact}/timeline", None),
            ("SCORING_URL", "GET", f"/admin/v1/identities/{contact}", None),
            (
                "SCORING_URL",
                "POST",
                "/admin/v1/identities/merge",
                {"one": contact, "other": "user_id:bob", **author},
            ),
            (
                "SCORING_URL",
                "POST",
                "/admin/v1/identities/unmerge",
                {"one": contact, "other": "user_id:bob", **author},
            ),
            (
                "SCORING_URL",
                "POST",
                "/admin/v1/corrections/touchpoints",
                {"who": contact, "kind": "bot", **author},
            ),
            (
                "SCORING_URL",
                "POST",
                "/admin/v1/corrections/stage",
                {"who": contact, "cycle": "engagement", "places": {"sales": "won"}, **author},
            ),
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
        ]
        for service, method, path, body in foreign_requests:
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
        # A workspace's key cannot name another workspace; an unknown workspace is 404.
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
        # Another workspace may use the same names.
        code, created = await ask(
            "INGEST_URL", "POST", "/admin/v1/sources", keys["other-admin"], {"name": "default"}
        )
        assert (code, created["source"]["workspace"]) == (201, "other")
        assert (
            await ask(
                "ORCHESTRATOR_URL", "POST", "/admin/v1/subscriptions", keys["other-admin"], hook
            )
        )[0] == 201


async def make_contact(instance):
    """Create a folded and published contact of the default workspace."""
    calls = [
        {"type": "identify", "userId": "ada", "messageId": "1", "traits": {"email": "ada@x.test"}},
        {"type": "track", "event": "Order Completed", "userId": "ada", "messageId": "2"},
        {"type": "track", "event": "Order Completed", "userId": "bob", "messageId": "3"},
    ]
    key = await instance.create_source("shop")
    await instance.send(key, calls[:2])
    await instance.wait_until_idle()
