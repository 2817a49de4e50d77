"""uvicorn protocol classes of ingest."""
