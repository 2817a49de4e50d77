"""Scoring: where each contact stands, in real time, as a pure function of its touchpoints."""
