"""Logs, metrics, tracing and health of a process."""
