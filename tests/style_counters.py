"""Counters of names and prose, with their limits: `python -m tests.style_counters` in `make check`.

It prints each figure beside its limit and exits with 1 when one is exceeded.
"""

import ast
import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

from cli.home import PROJECT

PRONOUNS = frozenset(("what", "who", "whoever", "whose", "whom"))
"""Words that stand where a noun belongs."""
MAX_PRONOUNS = 5.0
"""Per 1,000 words, of all docstrings and of all documents."""
VAGUE_LOCALS = frozenset(("found", "told", "said", "one", "held", "gone", "somebody", "everybody"))
MAX_VAGUE_LOCALS = 0
BANNED = frozenset(
    (
        "asked", "bury", "buried", "desk", "door", "doors", "everybody", "family", "frame",
        "frames", "found", "held", "hope", "letter", "letters", "lot", "mend", "news", "nobody",
        "people", "playbook", "reclaim", "regroup", "rehome", "revive", "room", "said", "settle",
        "settled", "somebody", "tell", "telling", "told", "turn", "whole", "whose",
    )
)  # fmt: skip
"""Words of no public name: each has a standard term in docs/glossary.md."""
SAME_MEANING = frozenset(("MessagePublisher",))
"""Classes that are defined more than once with one meaning; the list only shrinks."""
SOURCE_FOLDERS = ("libs", "services", "cli")


def python_files(*folders: str) -> list[Path]:
    """Return the committed Python files below folders, migrations left out."""
    listed = subprocess.run(
        ["git", "ls-files", *(f"{folder}/*.py" for folder in folders)],
        cwd=PROJECT, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    return [PROJECT / path for path in listed if "/migrations/" not in path]


def docstrings(path: Path) -> Iterator[str]:
    """Yield the docstrings of a module, its classes and its functions."""
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, kinds) and (text := ast.get_docstring(node)):
            yield text


def pronoun_rate(texts: Iterator[str]) -> float:
    """Return the pronouns per 1,000 words."""
    words = Counter(word for text in texts for word in re.findall(r"[a-z']+", text.lower()))
    return 1000 * sum(words[word] for word in PRONOUNS) / max(1, words.total())


def documents() -> Iterator[str]:
    """Yield the documents that people read, generated ones too; the changelog is history."""
    yield (PROJECT / "README.md").read_text()
    yield (PROJECT / "CONTRIBUTING.md").read_text()
    for path in sorted((PROJECT / "docs").rglob("*.md")):
        yield path.read_text()


def public_names(path: Path) -> Iterator[str]:
    """Yield the module's name and its public classes, functions and methods."""
    yield path.parent.name if path.stem == "__init__" else path.stem
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            for member in node.body:
                if isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef):
                    yield member.name


def words_of(name: str) -> list[str]:
    """Return the lower-case words of a snake_case or CamelCase name, standard terms left out."""
    parts = re.findall(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+", name)
    return re.sub(r"dead letters?|not found", "", " ".join(parts).lower()).split()


def banned_names() -> list[str]:
    """Return `path: name` of public names that hold a banned word."""
    return [
        f"{path.relative_to(PROJECT)}: {name}"
        for path in python_files(*SOURCE_FOLDERS)
        for name in public_names(path)
        if not name.startswith("_") and set(words_of(name)) & BANNED
    ]


def repeated_classes() -> dict[str, list[str]]:
    """Return the class names that are defined more than once, with their modules."""
    modules: dict[str, list[str]] = defaultdict(list)
    for path in python_files(*SOURCE_FOLDERS):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                modules[node.name].append(str(path.relative_to(PROJECT)))
    return {
        name: paths
        for name, paths in modules.items()
        if len(paths) > 1 and name not in SAME_MEANING
    }


def vague_locals() -> Counter[str]:
    """Return how often functions bind a local or parameter to a vague name."""
    counts: Counter[str] = Counter()
    for path in python_files(*SOURCE_FOLDERS):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        fields = {node.target for node in ast.walk(tree) if isinstance(node, ast.AnnAssign)}
        fields -= {
            node.target
            for function in ast.walk(tree)
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
            for node in ast.walk(function)
            if isinstance(node, ast.AnnAssign)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                counts[node.id] += node.id in VAGUE_LOCALS and node not in fields
            elif isinstance(node, ast.arg):
                counts[node.arg] += node.arg in VAGUE_LOCALS
    return +counts


def main() -> int:
    """Print the figures; return 1 when one exceeds its limit."""
    paths = python_files(*SOURCE_FOLDERS, "tests")
    locals_found = vague_locals()
    figures = [
        (
            "pronouns per 1,000 words of docstrings",
            pronoun_rate(text for path in paths for text in docstrings(path)),
            MAX_PRONOUNS,
            "",
        ),
        ("pronouns per 1,000 words of documents", pronoun_rate(documents()), MAX_PRONOUNS, ""),
        ("vague local names", locals_found.total(), MAX_VAGUE_LOCALS, str(dict(locals_found))),
        ("banned public names", len(banned_names()), 0, "; ".join(banned_names()[:20])),
        ("classes defined twice", len(repeated_classes()), 0, str(repeated_classes())),
    ]
    failed = False
    for label, figure, limit, detail in figures:
        exceeded = figure > limit
        failed |= exceeded
        print(f"{label}: {figure:.1f} (limit {limit:.0f})" + (f": {detail}" if exceeded else ""))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
