"""The settings documents without which browser libraries send nothing."""

from typing import Any

from services.ingest.domain.source import Source


def project_settings(write_key: str, host: str, protocol: str) -> dict[str, Any]:
    """Return what analytics-next reads. It sends the key it finds here, to the host it finds here.

    A second entry under `integrations` would make it load bundles that nobody serves.
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
    """Return what RudderStack's browser library reads; it checks that id, config and destinations are there."""
    quiet = {"errors": {"enabled": False}, "metrics": {"enabled": False}}
    return {
        "source": {
            "id": source.name,
            "name": source.name,
            "writeKey": write_key,
            "enabled": True,
            "workspaceId": source.workspace,
            "config": {"statsCollection": quiet},
            "destinations": [],
        },
        "updatedAt": "2026-01-01T00:00:00.000Z",
    }
