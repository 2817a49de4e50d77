"""Pure domain of scoring: no clock, no IO, no randomness.

Time is an argument, in integer microseconds UTC.
"""
