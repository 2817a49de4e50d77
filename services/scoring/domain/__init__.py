"""The pure domain: no clock, no IO, no randomness; time is an argument, in integer microseconds UTC."""
