"""Perigee's browser tracker: the script, and the HTML snippet that loads it."""
