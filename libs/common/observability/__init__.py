"""How a process shows itself: logs, metrics, health."""
