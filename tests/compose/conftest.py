"""These tests need a Docker engine: they are collected by `make test-compose` alone."""

import os

collect_ignore_glob = [] if os.environ.get("PERIGEE_COMPOSE") else ["test_*.py"]
