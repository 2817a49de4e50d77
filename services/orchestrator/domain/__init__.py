"""Plays, the ledger's ids, the gate: pure."""
