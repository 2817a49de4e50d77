"""Webhook subscriptions: filters, delivery, retries and their API."""
