"""The schema as a chain of Alembic revisions in plain SQL; tables are declared only here."""
