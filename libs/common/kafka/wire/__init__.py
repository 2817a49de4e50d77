"""Encoding of Kafka records and record batches."""
