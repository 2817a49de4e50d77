"""The reverse proxy routes every documented path to its service."""

import re

from cli.home import PROJECT
from tests.integration.admin_routes import PUBLIC_ROUTES, ROUTES

CONFIGURATION = (PROJECT / "deploy" / "proxy" / "haproxy.cfg").read_text()


def backend_of(path):
    """Return the service that the proxy routes a path to."""
    for service in re.findall(r"use_backend (\w+) if \1\n", CONFIGURATION):
        for match, values in re.findall(rf"acl {service} (path|path_beg) ([^\n]+)", CONFIGURATION):
            if any(
                path == value or (match == "path_beg" and path.startswith(value))
                for value in values.split()
            ):
                return service
    return re.search(r"default_backend (\w+)", CONFIGURATION)[1]


def test_every_route_reaches_its_service():
    for url_setting, by_scope in ROUTES.items():
        service = url_setting.removesuffix("_URL").lower()
        for route in (route for routes in by_scope.values() for route in routes):
            path = route.split()[1].replace("{", "").replace("}", "")
            assert backend_of(path) == service, route

    assert {backend_of(path) for path in PUBLIC_ROUTES} == {"orchestrator"}
    assert {backend_of(path) for path in ("/v1/batch", "/v1/t", "/perigee.js", "/v1/hook/k")} == {
        "ingest"
    }
