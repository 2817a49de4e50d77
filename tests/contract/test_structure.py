"""Structural rules of the source: file and function length, documentation, and layering."""

import ast
import subprocess
from functools import cache
from pathlib import Path

import pytest

from cli.home import PROJECT

SOURCE = [
    PROJECT / line
    for line in subprocess.run(
        ["git", "ls-files", "libs/*.py", "services/*.py", "cli/*.py"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
]


def name(path: Path) -> str:
    return str(path.relative_to(PROJECT))


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def functions(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [
        node
        for node in ast.walk(tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


def test_files_have_at_most_300_lines():
    assert {name(p): n for p in SOURCE if (n := len(p.read_text().splitlines())) > 300} == {}


def test_functions_have_at_most_40_lines_at_p95():
    lengths = sorted(f.end_lineno - f.lineno + 1 for p in SOURCE for f in functions(p))

    assert lengths[int(len(lengths) * 0.95)] <= 40


def test_every_function_has_a_return_annotation():
    unannotated = [
        f"{name(p)}:{f.lineno}" for p in SOURCE for f in functions(p) if f.returns is None
    ]

    assert unannotated == []


def test_every_module_has_a_docstring():
    assert [
        name(p) for p in SOURCE if p.read_text().strip() and not ast.get_docstring(tree(p))
    ] == []


def test_public_functions_of_libs_have_docstrings():
    undocumented = [
        f"{name(p)}:{f.lineno} {f.name}"
        for p in SOURCE
        if name(p).startswith("libs/") and "migrations" not in name(p)
        for f in functions(p)
        if not f.name.startswith("_") and not ast.get_docstring(f)
    ]

    assert undocumented == []


def calls(path: Path, attribute: str) -> list[str]:
    return [
        f"{name(path)}:{node.lineno}"
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == attribute
    ]


def test_only_unit_of_work_commits_transactions():
    allowed = (
        "libs/common/db/unit_of_work.py",
        "libs/common/kafka/progress_reporter.py",
        "services/scoring/handlers/touchpoint_storage.py",
    )

    assert [c for p in SOURCE if name(p) not in allowed for c in calls(p, "commit")] == []


def test_only_settings_read_the_environment():
    readers = [
        name(p) for p in SOURCE if "os.environ" in p.read_text() and not name(p).startswith("cli/")
    ]

    assert readers == ["libs/common/settings.py"]


@pytest.mark.parametrize("word", ["SELECT ", "INSERT INTO", "UPDATE ", "DELETE FROM"])
def test_sql_statements_are_in_repositories(word):
    allowed = ("repository", "libs/common/db/", "cli/")

    statements = [
        f"{name(p)}:{node.lineno}"
        for p in SOURCE
        if not any(home in name(p) for home in allowed)
        for node in ast.walk(tree(p))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and node.value.lstrip().startswith(word)
    ]

    assert [f for f in statements if "main.py" not in f] == []


def test_topic_names_equal_declared_topics():
    from typing import get_args

    from libs.common.topics import TOPICS, TopicName

    assert {t.name for t in TOPICS} == set(get_args(TopicName))


FIXED_SLEEPS = {
    "tests/compose/compose_stack.py": 4,
    "tests/compose/test_compose.py": 1,
    "tests/e2e/test_cli.py": 2,
    "tests/sdks/test_browsers.py": 2,
    "tests/unit/test_accumulator.py": 1,
}
"""Sleeps outside `tests/support/waiting.py`, by file: numbers that only shrink."""


def test_no_test_waits_by_a_fixed_sleep():
    """`wait_until` waits for a condition; `last` gives a fault or a pause its duration."""
    counts = {
        name(path): sum(is_sleep(node) for node in ast.walk(tree(path)))
        for path in sorted((PROJECT / "tests").rglob("*.py"))
        if not name(path).startswith(("tests/benchmarks", "tests/support/waiting.py"))
        and "node_modules" not in path.parts
    }

    assert {path: count for path, count in counts.items() if count} == FIXED_SLEEPS


def is_sleep(node: ast.AST) -> bool:
    """Return whether a node calls `sleep`; `sleep(0)` gives way and does not wait."""
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "sleep"
        and not (isinstance(node.args[0], ast.Constant) and node.args[0].value == 0)
    )
