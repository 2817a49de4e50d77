"""HTTP APIs of ingest: the tracking API and the admin API."""
