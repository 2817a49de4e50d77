"""The fast path of ingest: plain calls written as records from their own bytes."""
