"""The door: touchpoints in over HTTP, out to Kafka, acknowledged only when Kafka has them."""
