"""Compile the fold with mypyc, where a C compiler is there; the same source runs uncompiled, to the same bytes.

`-ffp-contract=off` is what keeps the bytes: a fused multiply-add rounds once where the source rounds twice. The build runs
in a copy, so that setuptools does not read the project's pyproject.toml. It never fails the set-up: it says why, in one
line, and the fold runs uncompiled.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(PROJECT))

from services.scoring.compiled import DOMAIN, MODULES, RECORD, source_hash  # noqa: E402

_SETUP = """
from mypyc.build import mypycify
from setuptools import setup

extensions = mypycify(
    ["--config-file=", "--namespace-packages", "--explicit-package-bases", "--ignore-missing-imports",
     "--follow-imports=silent", *{modules!r}],
    group_name="perigee_domain",
    opt_level="3",
)
for extension in extensions:
    # Appended, not set by CFLAGS, which would replace -fwrapv.
    extension.extra_compile_args = [*(extension.extra_compile_args or []), "-ffp-contract=off"]
setup(name="perigee-domain", ext_modules=extensions, script_args=["-q", "build_ext", "--inplace"])
"""


def main() -> None:
    """Compile in place, or say why not."""
    clean()
    if shutil.which("cc") is None and shutil.which("gcc") is None:
        print("setup: no C compiler, so the fold runs uncompiled (to the same bytes, more slowly)")
        return
    print("setup: compiling the fold")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for name in ("services", "libs"):
            shutil.copytree(PROJECT / name, work / name, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
        modules = [str((DOMAIN / f"{name}.py").relative_to(PROJECT)) for name in MODULES]
        (work / "build_fold.py").write_text(_SETUP.format(modules=modules))
        outcome = subprocess.run(
            [sys.executable, "build_fold.py"], cwd=work, capture_output=True, text=True, check=False
        )
        if outcome.returncode:
            last = (outcome.stderr.strip() or outcome.stdout.strip() or "no message").splitlines()[-1]
            print(f"setup: the fold could not be compiled and runs uncompiled: {last}")
            return
        for built in work.glob("*.so"):
            shutil.copy(built, PROJECT)
        for built in (work / DOMAIN.relative_to(PROJECT)).glob("*.so"):
            shutil.copy(built, DOMAIN)
    RECORD.write_text(source_hash())


def clean() -> None:
    """Remove what an earlier build left: a stale extension would run silently instead of its source."""
    for built in [*PROJECT.glob("perigee_domain__mypyc*.so"), *DOMAIN.glob("*.so")]:
        built.unlink()
    RECORD.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
