"""Kafka clients: topic administration, a publisher, and a consumer with offsets in PostgreSQL."""

from libs.common.kafka.aiokafka_patches import patch_connection_errors

patch_connection_errors()  # at import, so that every client of the process is patched
