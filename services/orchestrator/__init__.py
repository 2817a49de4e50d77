"""The orchestrator: the right action, at the right moment, once."""
