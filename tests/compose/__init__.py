"""The compose file, run for real."""
