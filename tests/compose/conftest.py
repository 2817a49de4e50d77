"""Collects the compose tests for `make test-compose` alone: they need a Docker engine."""

import os

collect_ignore_glob = [] if os.environ.get("PERIGEE_COMPOSE") else ["test_*.py"]
