"""What the services share: messages, topics, settings, and the doors to Kafka and PostgreSQL."""
