"""Perigee's own tracker: the script that pages load, and what they write to load it."""
