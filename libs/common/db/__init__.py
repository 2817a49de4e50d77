"""PostgreSQL: connections, unit of work, offsets with their fence, outbox and relay."""
