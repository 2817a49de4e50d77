"""Kafka's record and batch encoding."""
