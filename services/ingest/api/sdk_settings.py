"""Settings documents that browser libraries need before they send anything."""

from typing import Any

from services.ingest.domain.source import Source


def project_settings(write_key: str, host: str, protocol: str) -> dict[str, Any]:
    """Return the settings of analytics-next: it sends this key to this host.

    A second entry under `integrations` would make it load bundles that no server has.
    """
    segment = {"apiKey": write_key, "apiHost": f"{host}/v1", "protocol": protocol}
    return {
        "integrations": {"Segment.io": segment},
        "plan": {"track": {"__default": {"enabled": True, "integrations": {}}}},
        "analyticsNextEnabled": True,
        "middlewareSettings": {},
        "enabledMiddleware": {},
        "remotePlugins": [],
        "metrics": {"sampleRate": 0},
        "legacyVideoPluginsEnabled": False,
    }


def source_config(write_key: str, source: Source) -> dict[str, Any]:
    """Return the settings of RudderStack's browser library.

    The library requires id, config and destinations.
    """
    disabled = {"errors": {"enabled": False}, "metrics": {"enabled": False}}
    return {
        "source": {
            "id": source.name,
            "name": source.name,
            "writeKey": write_key,
            "enabled": True,
            "workspaceId": source.workspace,
            "config": {"statsCollection": disabled},
            "destinations": [],
        },
        "updatedAt": "2026-01-01T00:00:00.000Z",
    }
