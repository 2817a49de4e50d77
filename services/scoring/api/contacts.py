"""`/v1/contacts`: where a contact stands, and why."""

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter

from libs.common.api_keys import Caller
from libs.common.http.authentication import require_scope
from services.scoring.handlers.contacts import ContactService

Reader = Annotated[Caller, require_scope("contacts:read")]


def router(contacts: ContactService) -> APIRouter:
    """Return the routes of contacts."""
    routes = APIRouter(tags=["contacts"])

    @routes.get("/contacts/{who:path}/explain")
    async def explain(
        caller: Reader, who: str, at: int | None = None, cycle: str | None = None
    ) -> dict[str, Any]:
        """Explain every cycle (or one) at an instant in microseconds UTC, now by default.

        Contributions sum to their score; `confidence` is a margin in 0..1 and no probability.
        """
        found = await contacts.explain(caller.workspace, who, at, cycle)
        return {
            "contact_id": found.contact_id,
            "at": found.at,
            "cycles": msgspec.to_builtins(found.cycles),
        }

    @routes.get("/contacts/{who:path}")
    async def contact(caller: Reader, who: str) -> dict[str, Any]:
        """Return a contact by contact id, identifier (`value` or `type:value`) or e-mail, advanced to now."""
        found: dict[str, Any] = msgspec.to_builtins(await contacts.get(caller.workspace, who))
        return found

    return routes
