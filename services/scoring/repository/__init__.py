"""Scoring's SQL. Every function takes the connection of the transaction it runs in."""
