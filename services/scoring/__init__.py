"""Scoring: each contact's engagement stage in real time, a pure function of its touchpoints."""
