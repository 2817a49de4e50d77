"""HTTP APIs of the orchestrator."""
