"""Use cases of the orchestrator: consume events, decide and send actions, serve the APIs."""
