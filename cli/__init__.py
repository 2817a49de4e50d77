"""The `perigee` command: it starts the parts, shows them, and proves that they are right."""
