"""`/v1/contacts`: a contact's current state, its explanation and its timeline."""

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query

from libs.common.api_keys import Caller
from libs.common.http.authentication import require_scope
from services.scoring.handlers.contact_timeline import ContactTimelineService
from services.scoring.handlers.contacts import ContactService

Reader = Annotated[Caller, require_scope("contacts:read")]


def router(contacts: ContactService, timelines: ContactTimelineService) -> APIRouter:
    """Return the routes of contacts."""
    routes = APIRouter(tags=["contacts"])

    @routes.get("/contacts/{who:path}/explain")
    async def explain(
        caller: Reader, who: str, at: int | None = None, cycle: str | None = None
    ) -> dict[str, Any]:
        """Explain a contact's position in every cycle, or in `cycle`.

        `at` is an instant in microseconds UTC, now by default. Contributions sum to their score;
        `confidence` is a margin in 0..1 and no probability.
        """
        explained = await contacts.explain(caller.workspace, who, at, cycle)
        return {
            "contact_id": explained.contact_id,
            "at": explained.at,
            "cycles": msgspec.to_builtins(explained.cycles),
        }

    @routes.get("/contacts/{who:path}/timeline")
    async def timeline(
        caller: Reader, who: str, limit: Annotated[int, Query(ge=1, le=1_000)] = 40
    ) -> dict[str, Any]:
        """Return a contact's position, its stage changes with causes, and its touchpoints.

        `limit` bounds the touchpoints and the changes of each cycle: the newest, in time order.
        Instants are microseconds UTC. Touchpoints of its market and its accounts are included.
        """
        document: dict[str, Any] = msgspec.to_builtins(
            await timelines.get_timeline(caller.workspace, who, limit)
        )
        return document

    @routes.get("/contacts/{who:path}")
    async def contact(caller: Reader, who: str) -> dict[str, Any]:
        """Return a contact's state, advanced to now without a write.

        `who` is a contact id, an identifier (`value` or `type:value`) or an e-mail address.
        """
        document: dict[str, Any] = msgspec.to_builtins(await contacts.get(caller.workspace, who))
        return document

    return routes
