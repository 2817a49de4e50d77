"""Webhook subscriptions: filters, delivery, retries and the admin API."""
