"""The schema, as a chain of Alembic revisions; each is plain SQL, the one declaration of its tables."""
