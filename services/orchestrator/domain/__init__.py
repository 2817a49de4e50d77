"""Pure domain of the orchestrator: plays, enrollments, conditions, content choice, the gate."""
