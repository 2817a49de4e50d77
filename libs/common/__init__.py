"""Code that all services share: messages, topics, settings, Kafka, PostgreSQL and HTTP parts."""
