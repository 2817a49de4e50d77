"""Pure logic of ingest: tracking calls, sources, normalisation. No IO, no clock."""
