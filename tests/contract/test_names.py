"""Names keep to docs/glossary.md: standard terms, one class per meaning, verbs that show it."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.home import PROJECT
from libs.common.topics import TOPICS
from tests import style_counters

GLOSSARY = (PROJECT / "docs" / "glossary.md").read_text()
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in GLOSSARY.splitlines()
    if line.startswith("| ") and not line.startswith("| term")
]
SOURCES = "\n".join(
    path.read_text() for path in style_counters.python_files(*style_counters.SOURCE_FOLDERS)
)
MIGRATIONS = "\n".join(
    path.read_text() for path in (PROJECT / "libs/common/db/migrations/versions").glob("r*.py")
)

WRITES = re.compile(
    r"\b(INSERT INTO|DELETE FROM|TRUNCATE|CREATE TABLE|(?<!FOR )(?<!DO )UPDATE (?!SET|SKIP))"
)
LOCKS = re.compile(r"\bFOR (NO KEY )?(UPDATE|SHARE)\b|pg_(try_)?advisory|\bLOCK TABLE\b")
WRITE_VERBS = ("create_", "insert_", "upsert_", "update_", "delete_", "enqueue", "dequeue")
ALLOWED = frozenset(
    (
        "libs/common/db/migrate.py: upgrade",
        # inserts the rows that it locks
        "services/orchestrator/repository/contact_reader.py: lock_contacts",
    )
)
"""Functions with another name; the list only shrinks."""


def repository_files() -> list[Path]:
    return [
        path
        for path in style_counters.python_files("libs/common/db", "services")
        if "repository" in path.parts or path.stem == "repository" or "db" in path.parts
    ]


def sql_functions() -> Iterator[tuple[str, str, str]]:
    """Yield (where, function name, its SQL) of the public functions of repositories."""
    for path in repository_files():
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.AsyncFunctionDef) and not node.name.startswith("_"):
                texts = [
                    part.value
                    for part in ast.walk(node)
                    if isinstance(part, ast.Constant) and isinstance(part.value, str)
                ]
                calls = " ".join(
                    part.attr for part in ast.walk(node) if isinstance(part, ast.Attribute)
                )
                sql = " ".join(texts[1:] if ast.get_docstring(node) else texts)
                if "copy_records_to_table" in calls:
                    sql += " INSERT INTO"
                where = f"{path.relative_to(PROJECT)}: {node.name}"
                yield where, node.name, sql


def test_glossary_has_at_least_sixty_terms():
    assert len(ROWS) >= 60
    assert all(len(row) == 5 and row[1] for row in ROWS)


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_glossary_row_names_what_exists(row):
    _, _, tables, topics, classes = row

    for name in re.findall(r"`(\w+)`", classes):
        assert re.search(rf"\b(class {name}\b|{name}(: \w+)? = )", SOURCES), name
    for table in re.findall(r"`[a-z]+\.(\w+)`", tables):
        assert table in MIGRATIONS, table
    for topic in re.findall(r"`([\w-]+)`", topics):
        assert topic in {declared.name for declared in TOPICS}, topic


def test_no_public_name_has_a_banned_word():
    assert style_counters.banned_names() == []


def test_no_class_name_has_two_meanings():
    assert style_counters.repeated_classes() == {}


def test_repository_functions_that_write_say_so():
    wrong = [
        where
        for where, name, sql in sql_functions()
        if WRITES.search(sql) and not name.startswith(WRITE_VERBS) and where not in ALLOWED
    ]

    assert wrong == []


def test_repository_functions_that_lock_say_so():
    wrong = [
        where
        for where, name, sql in sql_functions()
        if LOCKS.search(sql)
        and not WRITES.search(sql)
        and not (name.startswith("lock_") or "for_update" in name)
        and where not in ALLOWED
    ]

    assert wrong == []


def test_allow_list_only_shrinks():
    named = {where for where, _, _ in sql_functions()}

    assert not ALLOWED - named, "remove these entries: the functions are gone"
