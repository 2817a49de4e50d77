"""Repositories of webhook subscriptions."""
