"""What a service's image holds is what the service imports: its locked requirements name every library that it needs."""

import ast
import re
import sys
from importlib.metadata import packages_distributions

import pytest

from cli.home import PROJECT

OURS = ("services", "libs", "cli", "tests")
OPTIONAL = {"opentelemetry"}
"""What the extra `otel` adds."""


def file_of(module):
    """The file of a module of ours, None for what is an attribute of one."""
    place = PROJECT.joinpath(*module.split("."))
    return next(
        (path for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file()), None
    )


def imported(path):
    """Every module that a file names in an import, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def libraries(main):
    """The libraries that a module of ours needs, with all that it leads to."""
    found, waiting, seen = set(), [main], set()
    while waiting:
        module = waiting.pop()
        if module in seen:
            continue
        seen.add(module)
        top = module.partition(".")[0]
        if top in OURS:
            path = file_of(module)
            waiting += imported(path) if path else []
        elif top not in sys.stdlib_module_names:
            found.add(top)
    return found


@pytest.mark.parametrize("service", ["ingest", "scoring", "orchestrator"])
def test_an_image_has_every_library_that_its_service_imports(service):
    locked = re.findall(
        r"^([A-Za-z0-9._-]+)==",
        (PROJECT / "requirements" / f"{service}.txt").read_text(),
        re.MULTILINE,
    )
    there = {re.sub(r"[-_.]+", "-", name).lower() for name in locked}
    distributions = packages_distributions()
    needed = {name: {re.sub(r"[-_.]+", "-", one).lower() for one in distributions.get(name, [name])}
              for name in libraries(f"services.{service}.main") - OPTIONAL}  # fmt: skip
    assert len(needed) > 8
    assert {name for name, possible in needed.items() if not possible & there} == set()
