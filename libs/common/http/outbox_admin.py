"""Admin routes that every service with an outbox has: its status, and its quarantined messages.

Scope `operations`.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Protocol

import msgspec
from fastapi import APIRouter, Path

from libs.common.http.authentication import require_scope
from libs.common.work_status import WorkStatus

RowId = Annotated[int, Path(ge=1, lt=1 << 63, description="id of a quarantined row")]


class OutboxQuarantine(Protocol):
    """Messages that the broker refused. Methods with a row raise NotFound."""

    async def list_rows(self) -> Sequence[msgspec.Struct]:
        """Return the refused rows, oldest first."""
        ...

    async def get_value(self, row: int) -> bytes | None:
        """Return a row's value; None is a tombstone."""
        ...

    async def resend(self, row: int) -> None:
        """Let the relay try a row again."""
        ...

    async def skip(self, row: int) -> None:
        """Let the rows behind a row pass."""
        ...


class WorkStatusReader(Protocol):
    """Reader of a service's unfinished work and problems."""

    async def get_status(self) -> WorkStatus:
        """Return the status of the service, of all its processes together."""
        ...


def operations_router(
    service: str, work: WorkStatusReader, quarantine: OutboxQuarantine
) -> APIRouter:
    """Return the routes, under the service's name: one proxy leads to all services."""
    routes = APIRouter(
        prefix=f"/{service}", tags=["operations"], dependencies=[require_scope("operations")]
    )

    @routes.get("/status")
    async def status() -> dict[str, Any]:
        """Return what is still to do, and what waits for the operator.

        Reads Kafka's end offsets and one snapshot.
        """
        document: dict[str, Any] = msgspec.to_builtins(await work.get_status())
        return document

    @routes.get("/outbox")
    async def quarantined() -> list[dict[str, Any]]:
        """Return the messages that the broker refused, oldest first.

        `behind` counts the rows that wait for each.
        """
        return [msgspec.to_builtins(row) for row in await quarantine.list_rows()]

    @routes.get("/outbox/{row}")
    async def value(row: RowId) -> dict[str, str | None]:
        """Return a refused message's value as text; null is a tombstone."""
        content = await quarantine.get_value(row)
        return {"value": None if content is None else content.decode("utf-8", "replace")}

    @routes.post("/outbox/{row}/resend", status_code=204)
    async def resend(row: RowId) -> None:
        """Let the relay try a message again, after the cause of the refusal is removed."""
        await quarantine.resend(row)

    @routes.post("/outbox/{row}/skip", status_code=204)
    async def skip(row: RowId) -> None:
        """Let the rows behind a refused message pass.

        Readers of its key miss it; it stays in the table.
        """
        await quarantine.skip(row)

    return routes
