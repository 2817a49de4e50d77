"""The door to PostgreSQL: connections, the unit of work, offsets with their fence, the outbox and its relay."""
