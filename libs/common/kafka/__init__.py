"""The typed door to Kafka: topics, a publisher that survives a refused record, a consumer that commits in PostgreSQL."""

from libs.common.kafka.connection import mend

mend()  # here, so that nobody makes a client without it
