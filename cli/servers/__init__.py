"""The processes of an instance: how each is started, known to be ready, and stopped."""
