"""The typed door to Kafka: topics, a publisher that survives a refused record, a consumer that commits in PostgreSQL."""

from libs.common.kafka.aiokafka_patches import patch_connection_errors

patch_connection_errors()  # here, so that nobody makes a client without it
