"""docs/capabilities.md, made from docs/capabilities.yaml and the `capability` marks of tests.

`python -m tests.capabilities` writes the page. A row without a marked test shows "not yet".
"""

import ast
from collections import defaultdict
from pathlib import Path
from typing import Any

import yaml

from cli.home import PROJECT

SOURCE = PROJECT / "docs" / "capabilities.yaml"
PAGE = PROJECT / "docs" / "capabilities.md"
_INTRODUCTION = """# Capabilities

The 102 capabilities of the system, each with its acceptance test and the tests of the suite that
show it. "not yet" marks a row without such a test. `python -m tests.capabilities` generates this
page; to claim a row, mark a test with `@pytest.mark.capability(ROW)`.
"""


def marked_tests() -> dict[int, list[str]]:
    """Return by row the tests marked for it, as `path::name`."""
    tests: dict[int, list[str]] = defaultdict(list)
    for path in sorted((PROJECT / "tests").rglob("test_*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                for row in _marked_rows(node):
                    tests[row].append(f"{path.relative_to(PROJECT)}::{node.name}")
    return tests


def _marked_rows(node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[int]:
    return [
        argument.value
        for decorator in node.decorator_list
        if isinstance(decorator, ast.Call)
        and ast.unparse(decorator.func) == "pytest.mark.capability"
        for argument in decorator.args
        if isinstance(argument, ast.Constant) and isinstance(argument.value, int)
    ]


def rows() -> list[dict[str, Any]]:
    """Return the rows: number (`row`), `subject`, `test`."""
    document = yaml.safe_load(SOURCE.read_text(encoding="utf-8"))
    return [row for section in document["sections"] for row in section["rows"]]


def page() -> str:
    """Return the page, in Markdown."""
    document = yaml.safe_load(SOURCE.read_text(encoding="utf-8"))
    tests = marked_tests()
    shown = sum(1 for row in rows() if row["row"] in tests)
    lines = [_INTRODUCTION, f"{shown} of {len(rows())} rows have a marked test.\n"]
    for section in document["sections"]:
        lines.append(f"## {section['name']}\n")
        lines.append("| # | capability | it works when | tests |\n|---|---|---|---|")
        for row in section["rows"]:
            marked = "<br>".join(_link(test) for test in tests.get(row["row"], ())) or "not yet"
            lines.append(
                f"| {row['row']} | {_cell(row['subject'])} | {_cell(row['test'])} | {marked} |"
            )
        lines.append("")
    return "\n".join(lines)


def _link(test: str) -> str:
    path, name = test.split("::")
    return f"[`{name}`](../{path})"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main(path: Path = PAGE) -> None:
    """Write the page."""
    path.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
