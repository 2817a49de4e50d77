"""The proxy sends every documented route to the service that has it."""

import re

from cli.home import PROJECT
from tests.integration.test_access import OPEN, ROUTES

CONFIGURATION = (PROJECT / "deploy" / "proxy" / "haproxy.cfg").read_text()


def backend(path):
    """The service that the proxy sends a path to."""
    for service in re.findall(r"use_backend (\w+) if \1\n", CONFIGURATION):
        for how, values in re.findall(rf"acl {service} (path|path_beg) ([^\n]+)", CONFIGURATION):
            if any(
                path == value or (how == "path_beg" and path.startswith(value))
                for value in values.split()
            ):
                return service
    return re.search(r"default_backend (\w+)", CONFIGURATION)[1]


def test_every_route_reaches_its_service():
    for door, by_scope in ROUTES.items():
        service = door.removesuffix("_URL").lower()
        for route in (route for routes in by_scope.values() for route in routes):
            path = route.split()[1].replace("{", "").replace("}", "")
            assert backend(path) == service, route
    assert {backend(path) for path in OPEN} == {"orchestrator"}
    assert {backend(path) for path in ("/v1/batch", "/v1/t", "/perigee.js", "/v1/hook/k")} == {
        "ingest"
    }
