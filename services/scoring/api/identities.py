"""`/admin/v1/identities`, `/corrections` and `/refolds`: identities and their corrections."""

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
from services.scoring.handlers.refold_queue_status import RefoldQueue

ContactReference = Annotated[str, Field(min_length=1, max_length=600)]
IdentityEditor = Annotated[Caller, require_scope("identities")]
CorrectionEditor = Annotated[Caller, require_scope("corrections")]


class OperatorCommand(BaseModel):
    """Base of an operator's commands: the author and an optional note, both kept on record."""

    model_config = ConfigDict(extra="forbid")

    author: ContactReference
    note: str = Field("", max_length=2_000)

    def to_author(self) -> Author:
        """Return the author with the note."""
        return Author(self.author, self.note)


class IdentifierPair(OperatorCommand):
    """Two identifiers, each `type:value`, a value alone or a contact id."""

    one: ContactReference
    other: ContactReference


class TouchpointCorrectionCommand(OperatorCommand):
    """A correction of a contact's touchpoints, of all of them without message ids."""

    who: ContactReference
    kind: Literal["bot", "human", "exclude", "include"]
    message_ids: list[ContactReference] = Field([], max_length=1_000)


class StageCorrectionCommand(OperatorCommand):
    """A manual stage of a contact: `places` is {axis: stage}.

    It is valid from `at` (microseconds UTC, now by default) for the span `hold`.
    """

    who: ContactReference
    cycle: ContactReference
    places: dict[str, str] = Field(min_length=1)
    at: int | None = Field(None, ge=0, lt=1 << 53)
    hold: Duration = 30 * 86_400_000_000


def router(
    identities: IdentityService, corrections: CorrectionService, refolds: RefoldQueue
) -> APIRouter:
    """Return the routes of identities, corrections and the re-fold queue."""
    routes = APIRouter()

    @routes.get("/identities/{who:path}", tags=["identities"])
    async def show(caller: IdentityEditor, who: str) -> dict[str, Any]:
        """Return a contact's identifiers, devices, links, redirects and their corrections."""
        document: dict[str, Any] = msgspec.to_builtins(await identities.show(caller.workspace, who))
        return document

    @routes.post("/identities/merge", tags=["identities"])
    async def merge(caller: IdentityEditor, pair: IdentifierPair) -> dict[str, Any]:
        """Merge the contacts of two identifiers by a manual link."""
        merged: dict[str, Any] = msgspec.to_builtins(
            await identities.merge(caller.workspace, pair.one, pair.other, pair.to_author())
        )
        return merged

    @routes.post("/identities/unmerge", tags=["identities"])
    async def unmerge(caller: IdentityEditor, pair: IdentifierPair) -> dict[str, Any]:
        """Revoke the link between two identifiers."""
        unmerged: dict[str, Any] = msgspec.to_builtins(
            await identities.unmerge(caller.workspace, pair.one, pair.other, pair.to_author())
        )
        return unmerged

    @routes.post("/corrections/touchpoints", tags=["corrections"])
    async def touchpoints(
        caller: CorrectionEditor, command: TouchpointCorrectionCommand
    ) -> dict[str, Any]:
        """Flag touchpoints as a bot's or a human's, exclude them or include them again."""
        count = await corrections.correct_touchpoints(
            caller.workspace, command.who, command.kind, command.message_ids, command.to_author()
        )
        return {"corrected": count}

    @routes.post("/corrections/stage", tags=["corrections"])
    async def stage(caller: CorrectionEditor, command: StageCorrectionCommand) -> dict[str, Any]:
        """Set a contact's stages by hand for a span."""
        at = SystemClock().now() if command.at is None else command.at
        number = await corrections.set_stage(
            caller.workspace,
            command.who,
            command.cycle,
            command.places,
            at,
            at + command.hold,
            command.to_author(),
        )
        return {"correction": number}

    @routes.get("/refolds", tags=["refolds"], dependencies=[require_scope("refolds")])
    async def queue() -> dict[str, Any]:
        """Return the length of the re-fold queue, by reason."""
        status: dict[str, Any] = msgspec.to_builtins(await refolds.get_status())
        return status

    return routes
