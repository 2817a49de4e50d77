"""`/admin/v1`: identities, corrections, the re-fold queue."""

from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from libs.common.api_keys import Caller
from libs.common.clock import SystemClock
from libs.common.durations import Duration
from libs.common.http.authentication import require_scope
from services.scoring.handlers.corrections import CorrectionService
from services.scoring.handlers.identities import Author, IdentityService
from services.scoring.handlers.refold_queue import RefoldQueue

ContactReference = Annotated[str, Field(min_length=1, max_length=600)]
IdentityEditor = Annotated[Caller, require_scope("identities")]
CorrectionEditor = Annotated[Caller, require_scope("corrections")]


class OperatorCommand(BaseModel):
    """What every command of an operator carries: who gives it, and why."""

    model_config = ConfigDict(extra="forbid")

    author: ContactReference
    note: str = Field("", max_length=2_000)

    def to_author(self) -> Author:
        """Return who says it."""
        return Author(self.author, self.note)


class IdentifierPair(OperatorCommand):
    """Two identifiers (`type:value`, a value alone, or a contact id)."""

    one: ContactReference
    other: ContactReference


class TouchpointCorrectionCommand(OperatorCommand):
    """What touchpoints of a contact are; all of them when no message id is given."""

    who: ContactReference
    kind: Literal["bot", "human", "exclude", "include"]
    message_ids: list[ContactReference] = Field([], max_length=1_000)


class StageCorrectionCommand(OperatorCommand):
    """Where a known person stands, by {axis: stage}, from `at` (microseconds UTC, now by default) for `hold`."""

    who: ContactReference
    cycle: ContactReference
    places: dict[str, str] = Field(min_length=1)
    at: int | None = Field(None, ge=0, lt=1 << 53)
    hold: Duration = 30 * 86_400_000_000


def router(
    identities: IdentityService, corrections: CorrectionService, refolds: RefoldQueue
) -> APIRouter:
    """Return the routes of the admin door."""
    routes = APIRouter()

    @routes.get("/identities/{who:path}", tags=["identities"])
    async def show(caller: IdentityEditor, who: str) -> dict[str, Any]:
        """Return a person's identifiers, devices, links, redirects and the corrections about them."""
        found: dict[str, Any] = msgspec.to_builtins(await identities.show(caller.workspace, who))
        return found

    @routes.post("/identities/merge", tags=["identities"])
    async def merge(caller: IdentityEditor, pair: IdentifierPair) -> dict[str, Any]:
        """Say that two people are one."""
        found: dict[str, Any] = msgspec.to_builtins(
            await identities.merge(caller.workspace, pair.one, pair.other, pair.to_author())
        )
        return found

    @routes.post("/identities/unmerge", tags=["identities"])
    async def unmerge(caller: IdentityEditor, pair: IdentifierPair) -> dict[str, Any]:
        """Say that two identifiers are not one person's."""
        found: dict[str, Any] = msgspec.to_builtins(
            await identities.unmerge(caller.workspace, pair.one, pair.other, pair.to_author())
        )
        return found

    @routes.post("/corrections/touchpoints", tags=["corrections"])
    async def touchpoints(
        caller: CorrectionEditor, said: TouchpointCorrectionCommand
    ) -> dict[str, Any]:
        """Flag touchpoints as a bot's or a human's, leave them out or put them back."""
        count = await corrections.correct_touchpoints(
            caller.workspace, said.who, said.kind, said.message_ids, said.to_author()
        )
        return {"corrected": count}

    @routes.post("/corrections/stage", tags=["corrections"])
    async def stage(caller: CorrectionEditor, said: StageCorrectionCommand) -> dict[str, Any]:
        """Set a stage by hand."""
        at = SystemClock().now() if said.at is None else said.at
        number = await corrections.set_stage(
            caller.workspace,
            said.who,
            said.cycle,
            said.places,
            at,
            at + said.hold,
            said.to_author(),
        )
        return {"correction": number}

    @routes.get("/refolds", tags=["refolds"], dependencies=[require_scope("refolds")])
    async def queue() -> dict[str, Any]:
        """Return what waits in the re-fold queue, by reason."""
        found: dict[str, Any] = msgspec.to_builtins(await refolds.get_status())
        return found

    return routes
