"""The orchestrator's doors."""
