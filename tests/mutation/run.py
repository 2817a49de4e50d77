"""Mutation tests of the domains by their unit and property tests: `make test-mutation`.

mutmut mutates each domain in a copy of the sources, uncompiled. A survivor has to be judged in
tests/mutation/survivors.md by the line that it changes; the run fails below 90 % of killed mutants
in a domain, or with a survivor that is not judged there. Arguments name domains; without any, all
run.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec

from cli.home import PROJECT
from tests.support.source_copy import copy_sources

LEAST_KILLED = 0.9
FOLDER = PROJECT / ".perigee" / "mutation"
SURVIVORS = Path(__file__).with_name("survivors.md")
_CONFIGURATION = """\
[tool.mutmut]
source_paths = ["services", "libs"]
only_mutate = {files}
also_copy = ["examples", "cli", "cycles"]
pytest_add_cli_args_test_selection = {tests}
pytest_add_cli_args = ["-p", "no:xdist", "-p", "no:schemathesis", "-p", "no:cacheprovider"]
use_git_change_detection = false
timeout_multiplier = 4.0
timeout_constant = 2.0

[tool.pytest.ini_options]
asyncio_mode = "auto"
markers = ["capability(row): the test shows a row of docs/capabilities.yaml"]
"""


class Domain(msgspec.Struct, frozen=True):
    """Files to mutate, and the tests that should fail on each mutant."""

    files: list[str]
    tests: list[str]


_SCORING, _ORCHESTRATOR = "services/scoring/domain", "services/orchestrator/domain"
_ORCHESTRATOR_TESTS = "tests/unit/orchestrator"
_FOLD_TESTS = [
    "tests/unit/test_stage_rules.py",
    "tests/unit/test_fold_step.py",
    "tests/unit/test_state_snapshots.py",
    "tests/unit/test_fold_at_epoch.py",
    "tests/unit/test_fold_state.py",
    "tests/unit/test_fold_columns.py",
    "tests/unit/test_publication.py",
    "tests/unit/test_cycle_capabilities.py",
    "tests/unit/test_explain.py",
    "tests/property",
]
DOMAINS = {
    "decay": Domain(["libs/common/decay.py"], ["tests/unit/test_decay.py"]),
    "fold": Domain(
        [f"{_SCORING}/{name}.py" for name in ("fold", "fold_state", "fold_step")], _FOLD_TESTS
    ),
    "cycle conditions": Domain([f"{_SCORING}/condition_nodes.py"], _FOLD_TESTS),
    "identity": Domain(
        [
            f"{_SCORING}/{name}.py"
            for name in ("identity", "identity_resolution", "identifier_components")
        ],
        [
            "tests/unit/test_touchpoint_identity.py",
            "tests/unit/test_subject_identifier.py",
            "tests/unit/test_identifier_components.py",
            "tests/unit/test_identity_resolution.py",
            "tests/property/test_identity.py",
        ],
    ),
    "gate and consent": Domain(
        [f"{_ORCHESTRATOR}/{name}.py" for name in ("gate", "gate_request", "contact_facts")],
        [
            f"{_ORCHESTRATOR_TESTS}/test_{subject}.py"
            for subject in (
                "gate",
                "quiet_hours",
                "gate_request",
                "content_offer",
                "contact_facts",
                "condition",
            )
        ],
    ),
    "play conditions": Domain(
        [f"{_ORCHESTRATOR}/condition_evaluator.py"],
        [
            f"{_ORCHESTRATOR_TESTS}/test_condition.py",
            f"{_ORCHESTRATOR_TESTS}/test_condition_horizons.py",
            f"{_ORCHESTRATOR_TESTS}/test_trait_condition.py",
            "tests/property/test_conditions.py",
        ],
    ),
}


class Outcome(msgspec.Struct):
    """Mutants of a domain: their number, the number killed, and the survivors."""

    mutants: int
    killed: int
    survivors: dict[str, str]
    """By mutant: `file function: -old +new`, the text by which a survivor is judged."""


def run(name: str, domain: Domain) -> Outcome:
    """Mutate the files of a domain and run its tests against each mutant."""
    folder = FOLDER / name.replace(" ", "-")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    copy_sources(folder)
    shutil.copy(
        PROJECT / "tests" / "mutation" / "conftest_of_mutants.py", folder / "tests" / "conftest.py"
    )
    (folder / "pyproject.toml").write_text(
        _CONFIGURATION.format(files=json.dumps(domain.files), tests=json.dumps(domain.tests))
    )
    processes = os.environ.get("MUTATION_PROCESSES", "2")
    _mutmut(folder, "run", "--max-children", processes)
    lines = _mutmut(folder, "results", "--all", "true", capture=True).splitlines()
    statuses = dict(line.strip().split(": ", 1) for line in lines if "__mutmut_" in line)
    tested = {mutant: status for mutant, status in statuses.items() if status != "skipped"}
    survivors = [mutant for mutant, status in tested.items() if status in ("survived", "no tests")]
    return Outcome(
        len(tested),
        len(tested) - len(survivors),
        {
            mutant: _change(_mutmut(folder, "show", mutant, capture=True), mutant)
            for mutant in survivors
        },
    )


def _mutmut(folder: Path, *arguments: str, capture: bool = False) -> str:
    process = subprocess.run(
        [str(FOLDER / "bin" / "python"), "-m", "mutmut", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        stdout=subprocess.PIPE if capture else None,
        text=True,
        check=True,
    )
    return process.stdout or ""


def _change(diff: str, mutant: str) -> str:
    """Return the changed lines of a mutant's diff, without the parts that depend on its number."""
    function = re.sub(r"__mutmut_\d+$", "", mutant).rpartition(".")[2].removeprefix("x_")
    path = mutant.rpartition(".")[0].replace(".", "/")
    lines = [line for line in diff.splitlines() if re.match(r"[-+](?![-+])", line)]
    return f"{path} {function}: " + " ".join(f"{line[0]}{line[1:].strip()}" for line in lines)


def main(names: list[str]) -> int:
    """Run the domains; return the exit code."""
    judged_text = SURVIVORS.read_text() if SURVIVORS.exists() else ""
    failed = False
    for name in names or list(DOMAINS):
        outcome = run(name, DOMAINS[name])
        rate = outcome.killed / outcome.mutants
        print(f"{name}: {outcome.killed} of {outcome.mutants} mutants killed, {rate:.1%}")
        unjudged = sorted({text for text in outcome.survivors.values() if text not in judged_text})
        for text in unjudged:
            print(f"  not judged: {text}")
        failed |= rate < LEAST_KILLED or bool(unjudged)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
