"""Ingest's tables."""
