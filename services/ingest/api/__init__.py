"""Ingest's HTTP doors."""
