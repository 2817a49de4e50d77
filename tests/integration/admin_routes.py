"""Routes of the services, with the scope that each requires."""


def operations(service):
    """Return the routes of the scope `operations` that every service with an outbox has."""
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
        "sources": [
            "GET /admin/v1/sources",
            "POST /admin/v1/sources",
            "PATCH /admin/v1/sources/{name}",
            "POST /admin/v1/sources/{name}/keys",
            "DELETE /admin/v1/sources/{name}/keys",
            "GET /admin/v1/tracker",
        ],
        "imports": [
            "GET /admin/v1/imports",
            "POST /admin/v1/imports",
            "GET /admin/v1/imports/{content}",
            "GET /admin/v1/imports/{content}/rejects",
        ],
        "access": [
            "GET /admin/v1/workspaces",
            "POST /admin/v1/workspaces",
            "GET /admin/v1/keys",
            "POST /admin/v1/keys",
            "POST /admin/v1/keys/{name}/rotate",
            "DELETE /admin/v1/keys/{name}",
        ],
        "dlq": [
            "GET /admin/v1/dlq",
            "GET /admin/v1/dlq/{topic}/{partition}/{offset}",
            "POST /admin/v1/dlq/replay",
            "POST /admin/v1/dlq/drop",
        ],
        "live": ["GET /admin/v1/live"],
    },
    "SCORING_URL": {
        "contacts:read": [
            "GET /v1/contacts/{who}",
            "GET /v1/contacts/{who}/explain",
            "GET /v1/contacts/{who}/timeline",
            "GET /v1/statistics",
            "GET /v1/compelling-events",
        ],
        "events": [
            "POST /v1/compelling-events",
            "PATCH /v1/compelling-events/{event_id}",
            "DELETE /v1/compelling-events/{event_id}",
        ],
        "stage_changes:read": ["GET /v1/stage-changes"],
        "identities": [
            "GET /admin/v1/identities/{who}",
            "POST /admin/v1/identities/merge",
            "POST /admin/v1/identities/unmerge",
        ],
        "corrections": [
            "POST /admin/v1/corrections/touchpoints",
            "POST /admin/v1/corrections/stage",
        ],
        "refolds": ["GET /admin/v1/refolds"],
        "operations": [*operations("scoring"), "POST /admin/v1/replay-check"],
        "cycles": [
            "GET /admin/v1/cycles",
            "GET /admin/v1/cycles/{cycle}",
            "POST /admin/v1/cycles/validate",
            "POST /admin/v1/cycles/diff",
            "POST /admin/v1/cycles/backtest",
            "POST /admin/v1/cycles/draft",
            "POST /admin/v1/cycles/publish",
            "POST /admin/v1/cycles/{cycle}/rollback",
        ],
    },
    "ORCHESTRATOR_URL": {
        "subscriptions": [
            "GET /admin/v1/subscriptions",
            "POST /admin/v1/subscriptions",
            "GET /admin/v1/subscriptions/{name}",
            "PATCH /admin/v1/subscriptions/{name}",
            "DELETE /admin/v1/subscriptions/{name}",
            "POST /admin/v1/subscriptions/{name}/pause",
            "POST /admin/v1/subscriptions/{name}/resume",
            "POST /admin/v1/subscriptions/{name}/secret",
            "POST /admin/v1/subscriptions/{name}/resend",
        ],
        "plays": [
            "GET /admin/v1/plays",
            "POST /admin/v1/plays",
            "POST /admin/v1/plays/check",
            "POST /admin/v1/plays/preview",
            "POST /admin/v1/plays/simulate",
            "GET /admin/v1/orchestrator/statistics",
            "GET /admin/v1/schemas/{kind}",
            "GET /admin/v1/plays/{name}",
            "POST /admin/v1/plays/{name}/pause",
            "POST /admin/v1/plays/{name}/resume",
            "POST /admin/v1/plays/{name}/rollback",
            "GET /admin/v1/plays/{name}/impact",
            "GET /admin/v1/definitions",
            "POST /admin/v1/definitions/{kind}",
            "DELETE /admin/v1/definitions/{kind}/{name}",
            "GET /admin/v1/switches",
            "POST /admin/v1/switches",
            "DELETE /admin/v1/switches/{channel}",
            "GET /admin/v1/why/{who}",
            "GET /admin/v1/actions",
            "POST /admin/v1/actions/{action_id}",
            "GET /admin/v1/coverage",
            "GET /admin/v1/maturity",
            "GET /admin/v1/audiences",
            "GET /admin/v1/audiences/{fell_from}/{never_reached}",
            "DELETE /admin/v1/suppressions/{who}/{channel}",
            "GET /admin/v1/referrals",
            "POST /admin/v1/referrals/codes",
            "GET /admin/v1/segments",
            "GET /admin/v1/segments/{name}/members",
        ],
        "contacts:read": ["GET /v1/next"],
        "operations": operations("orchestrator"),
    },
}
"""Routes by service and required scope. A route without an entry fails the test."""
PUBLIC_ROUTES = {"/u/{token}", "/r/{code}", "/v1/me/next"}
"""Routes of a signed link or a write key."""
