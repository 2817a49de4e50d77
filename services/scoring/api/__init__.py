"""Scoring's doors: `/v1` for readers with a service key, `/admin/v1` for operators with the admin key."""
