"""What the orchestrator does: listen, decide, send, tell."""
