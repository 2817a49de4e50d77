"""Fast path of ingest: touchpoints from cached templates, encoded as Kafka records at once."""
