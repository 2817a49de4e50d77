"""Service images: locked requirements include every library that the service imports."""

import ast
import re
import sys
from importlib.metadata import packages_distributions

import pytest

from cli.home import PROJECT

PROJECT_PACKAGES = ("services", "libs", "cli", "tests")
OPTIONAL = {"opentelemetry"}
"""Libraries of the extra `otel`."""


def module_file(module):
    """Return the file of a project module, or None for an attribute of a module."""
    path_of_module = PROJECT.joinpath(*module.split("."))
    return next(
        (
            path
            for path in (path_of_module.with_suffix(".py"), path_of_module / "__init__.py")
            if path.is_file()
        ),
        None,
    )


def imported_modules(path):
    """Yield the modules imported by a file, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def canonical_name(package):
    """Return a package name in the canonical form of PEP 503."""
    return re.sub(r"[-_.]+", "-", package).lower()


def libraries_of(main):
    """Return the libraries that a project module imports, directly or through others."""
    libraries_of, waiting, seen = set(), [main], set()
    while waiting:
        module = waiting.pop()
        if module in seen:
            continue
        seen.add(module)
        top = module.partition(".")[0]
        if top in PROJECT_PACKAGES:
            path = module_file(module)
            waiting += imported_modules(path) if path else []
        elif top not in sys.stdlib_module_names:
            libraries_of.add(top)
    return libraries_of


@pytest.mark.parametrize("service", ["ingest", "scoring", "orchestrator"])
def test_image_has_every_library_its_service_imports(service):
    locked_names = re.findall(
        r"^([A-Za-z0-9._-]+)==",
        (PROJECT / "requirements" / f"{service}.txt").read_text(),
        re.MULTILINE,
    )
    locked = {canonical_name(name) for name in locked_names}
    distributions = packages_distributions()

    candidates = {
        name: {canonical_name(package) for package in distributions.get(name, [name])}
        for name in libraries_of(f"services.{service}.main") - OPTIONAL
    }

    assert len(candidates) > 8
    assert {name for name, packages in candidates.items() if not packages & locked} == set()
