"""Cycle versions: an operator's commands to save a draft, publish, roll back and list."""

from typing import Any

import msgspec
import yaml

from libs.common.db.connection import Connection, Session
from libs.common.db.unit_of_work import unit_of_work
from libs.common.errors import Conflict, NotFound
from services.scoring.domain.cycle_compiler import compile_cycle
from services.scoring.domain.cycle_diff import diff_specs
from services.scoring.domain.cycle_lint import lint_cycle
from services.scoring.domain.cycle_parser import parse_cycle_spec
from services.scoring.domain.cycle_spec import CycleSpec, spec_fingerprint
from services.scoring.handlers.cycle_installation import activate_account_cycle, build_draft_version
from services.scoring.repository import cycle_versions
from services.scoring.repository.cycle_versions import VersionRow


class CycleVersionView(msgspec.Struct, frozen=True):
    """A cycle version with the progress of its rollout.

    `filled`, `told` and `swept` are (contacts done, all contacts) while the version is filled,
    its net changes are published, and its folds are deleted; else None.
    """

    cycle: str
    version: str
    status: str
    author: str
    created_at: Any
    live_at: Any
    filled: tuple[int, int] | None
    told: tuple[int, int] | None
    swept: tuple[int, int] | None


class ValidatedSpec(msgspec.Struct, frozen=True):
    """A valid specification: its name, version, numbers of parts, and advice on doubtful places."""

    cycle: str
    version: str
    signals: int
    axes: int
    stages: int
    advice: list[str]


class CycleVersionService:
    """Application service of cycle versions; errors name the place in the specification."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def save_draft(self, text: str, author: str) -> str:
        """Save a draft; return its `cycle@version`.

        Raises ConfigurationError, and Conflict for a version that is or was shadow or live.
        """
        spec = _parse_and_compile(text)
        async with self._session.acquire() as connection, unit_of_work(connection):
            stored = await cycle_versions.get_version(connection, spec.cycle, spec.version)
            if stored is not None and stored.status != "draft":
                raise Conflict(
                    f"version {spec.version} of {spec.cycle} is {stored.status}: "
                    "give the draft another version"
                )
            row = build_draft_version(spec, text, author)
            await cycle_versions.upsert_version(connection, row)
            return row.fold

    async def publish(self, text: str, author: str, per_second: int) -> str:
        """Make a specification the next live version of its cycle; return its `cycle@version`.

        Its net changes are published for `per_second` contacts a second. Raises ConfigurationError
        for an invalid one; Conflict during another rollout of the cycle, or when the version was
        live before with other content.
        """
        spec = _parse_and_compile(text)
        async with self._session.acquire() as connection, unit_of_work(connection):
            await cycle_versions.lock_versions_exclusive(connection)
            await _start_rollout(connection, spec, text, author, per_second)
            return f"{spec.cycle}@{spec.version}"

    async def rollback(self, cycle: str, author: str) -> str:
        """Retire a version that is being filled, else publish the previous live version again.

        Returns the `cycle@version` that is or becomes live. Raises NotFound without one.
        """
        async with self._session.acquire() as connection, unit_of_work(connection):
            await cycle_versions.lock_versions_exclusive(connection)
            rows = [
                row for row in await cycle_versions.list_versions(connection) if row.cycle == cycle
            ]
            if not rows:
                raise NotFound(f"no cycle {cycle!r}")
            shadow = next((row for row in rows if row.status == "shadow"), None)
            live = next((row for row in rows if row.status == "live"), None)
            if shadow is not None and live is not None:
                await cycle_versions.update_status(connection, cycle, shadow.version, "retired")
                return live.fold
            retired = [row for row in rows if row.status == "retired" and row.live_at is not None]
            if not retired:
                raise NotFound(
                    f"cycle {cycle} has no version before {live.version if live else 'this one'}"
                )
            previous = max(retired, key=lambda row: row.retired_at)
            await _start_rollout(
                connection,
                parse_cycle_spec(previous.spec, f"cycle {previous.fold}"),
                previous.spec,
                author,
                previous.per_second,
            )
            return previous.fold

    async def list_versions(self) -> list[CycleVersionView]:
        """Return every version, newest first within its cycle."""
        async with self._session.acquire() as connection:
            return [
                await _to_view(connection, row)
                for row in await cycle_versions.list_versions(connection)
            ]

    async def get_text(self, cycle: str, version: str | None) -> str:
        """Return the YAML text of a version, of the live one by default. Raises NotFound."""
        async with self._session.acquire() as connection:
            rows = [
                row for row in await cycle_versions.list_versions(connection) if row.cycle == cycle
            ]
        row = next(
            (r for r in rows if (r.status == "live" if version is None else r.version == version)),
            None,
        )
        if row is None:
            stored = ", ".join(f"{row.version} ({row.status})" for row in rows) or "none"
            raise NotFound(f"cycle {cycle} has no version {version or 'live'}; there are {stored}")
        return row.spec

    async def diff(self, text: str, where: str, version: str | None) -> list[str]:
        """Return where a specification differs from a version, the live one by default.

        Raises ConfigurationError naming the place of a fault, NotFound.
        """
        spec = parse_cycle_spec(text, where)
        stored = await self.get_text(spec.cycle, version)
        return diff_specs(yaml.safe_load(stored), yaml.safe_load(text))


def validate_spec(text: str, where: str) -> ValidatedSpec:
    """Check a specification. Raises ConfigurationError naming the place of each fault."""
    spec = parse_cycle_spec(text, where)
    engine = compile_cycle(spec)
    return ValidatedSpec(
        spec.cycle,
        spec.version,
        len(engine.signals),
        len(engine.axes),
        len(spec.stages),
        lint_cycle(spec),
    )


def _parse_and_compile(text: str) -> CycleSpec:
    spec = parse_cycle_spec(text, "the cycle")
    compile_cycle(spec)
    return spec


async def _start_rollout(
    connection: Connection, spec: CycleSpec, text: str, author: str, per_second: int
) -> None:
    """Store the version and make it a shadow; a version of an account cycle is live at once."""
    rows = [
        row for row in await cycle_versions.list_versions(connection) if row.cycle == spec.cycle
    ]
    for row in rows:
        if row.status == "shadow" or row.told_to is not None or row.swept_to is not None:
            raise Conflict(
                f"the rollout of {row.fold} is in progress ('perigee cycle status' shows it): "
                "publish after it"
            )
    stored = next((row for row in rows if row.version == spec.version), None)
    if stored is not None and stored.status == "live":
        raise Conflict(
            f"version {spec.version} of {spec.cycle} is live already: "
            "give the new one another version"
        )
    if (
        stored is not None
        and stored.status == "retired"
        and stored.fingerprint != spec_fingerprint(spec)
    ):
        raise Conflict(
            f"version {spec.version} of {spec.cycle} was live with other content: "
            "give this one another version"
        )
    await cycle_versions.upsert_version(
        connection, build_draft_version(spec, text, author, per_second)
    )
    if spec.subject == "contact":
        await cycle_versions.update_status(connection, spec.cycle, spec.version, "shadow")
        return
    for row in rows:
        if row.status == "live":
            await cycle_versions.update_status(connection, row.cycle, row.version, "retired")
    await activate_account_cycle(connection, spec)


async def _to_view(connection: Connection, row: VersionRow) -> CycleVersionView:
    async def progress(cursor: str | None) -> tuple[int, int] | None:
        return None if cursor is None else await cycle_versions.count_progress(connection, cursor)

    return CycleVersionView(
        row.cycle, row.version, row.status, row.author, row.created_at, row.live_at,
        await progress(row.filled_to), await progress(row.told_to), await progress(row.swept_to),
    )  # fmt: skip
