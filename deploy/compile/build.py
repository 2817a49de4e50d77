"""Compile modules with mypyc, given a C compiler: `build.py [fold|publisher ...]`.

All parts are built by default. The same source runs uncompiled, the fold to the same bytes:
`-ffp-contract=off` preserves them, because a fused multiply-add rounds once where the source rounds
twice. Parts that call each other are compiled together. The build runs in a copy, so that
setuptools does not read the project's pyproject.toml. A failed build never fails the set-up: it
prints its reason in one line, and everything runs uncompiled.
"""

import shutil
import subprocess
import sys
import tempfile
from importlib.machinery import EXTENSION_SUFFIXES
from itertools import chain
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(PROJECT))

from libs.common.compilation import PUBLISHER_MODULES, CompiledModules  # noqa: E402
from services.scoring.compilation import FOLD_MODULES  # noqa: E402

PARTS = {part.name: part for part in (FOLD_MODULES, PUBLISHER_MODULES)}
_SETUP = """
from mypyc.build import mypycify
from setuptools import setup

extensions = mypycify(
    ["--config-file=", "--namespace-packages", "--explicit-package-bases",
     "--ignore-missing-imports", "--follow-imports=silent", *{modules!r}],
    group_name="perigee",
    opt_level="3",
)
for extension in extensions:
    # Appended, not set by CFLAGS, which would replace -fwrapv.
    extension.extra_compile_args = [
        *(extension.extra_compile_args or []), "-ffp-contract=off", "-fno-semantic-interposition"
    ]
setup(name="perigee", ext_modules=extensions, script_args=["-q", "build_ext", "--inplace"])
"""


def main() -> None:
    """Compile the given parts in place, or print the reason for not compiling."""
    parts = [PARTS[name] for name in sys.argv[1:]] or list(PARTS.values())
    clean()
    if shutil.which("cc") is None and shutil.which("gcc") is None:
        print("setup: no C compiler: everything runs uncompiled, with equal results, but slower")
        return
    print(f"setup: compiling the {', the '.join(part.name for part in parts)}")
    with tempfile.TemporaryDirectory() as folder:
        build(parts, Path(folder))


def build(parts: list[CompiledModules], work: Path) -> None:
    """Compile parts in a copy of the sources and copy the extensions beside the sources."""
    for name in ("services", "libs"):
        shutil.copytree(
            PROJECT / name, work / name, ignore=shutil.ignore_patterns("*.so", "__pycache__")
        )
    sources = [source for part in parts for source in part.sources]
    (work / "build_parts.py").write_text(_SETUP.format(modules=[str(source) for source in sources]))
    outcome = subprocess.run(
        [sys.executable, "build_parts.py"], cwd=work, capture_output=True, text=True, check=False
    )
    if outcome.returncode:
        output = outcome.stderr.strip() or outcome.stdout.strip() or "no message"
        print(
            f"setup: the compilation failed, everything runs uncompiled: {output.splitlines()[-1]}"
        )
        return
    for folder in {Path(), *(source.parent for source in sources)}:
        for extension in (work / folder).glob("*.so"):
            shutil.copy(extension, PROJECT / folder)
    for part in parts:
        part.record.write_text(part.source_hash())


def clean() -> None:
    """Remove the extensions of earlier builds, renamed parts included.

    They would silently run instead of a source.
    """
    suffix = EXTENSION_SUFFIXES[0]  # extensions of other interpreters stay
    stale_files = chain(
        PROJECT.glob(f"perigee_*{suffix}"),
        PROJECT.glob("perigee_*_compiled_from.txt"),
        *((PROJECT / name).rglob(f"*{suffix}") for name in ("libs", "services")),
    )
    for path in stale_files:
        path.unlink()


if __name__ == "__main__":
    main()
