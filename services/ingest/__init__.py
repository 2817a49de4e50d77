"""Ingest: receives touchpoints over HTTP, acknowledges them when Kafka has stored them."""
