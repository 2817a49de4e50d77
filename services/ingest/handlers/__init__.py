"""What ingest does."""
