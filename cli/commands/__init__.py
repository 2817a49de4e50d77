"""The command groups of `perigee`, one module each."""
