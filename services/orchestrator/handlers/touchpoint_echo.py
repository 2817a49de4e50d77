"""What we sent returns as a touchpoint, through the public door, with our own key, from our own outbox.

At least once: the `messageId` is the action's, so scoring drops repeats.
"""

from urllib.parse import urljoin

import httpx2

from libs.common.db.connection import Session
from libs.common.errors import Unavailable
from services.orchestrator.repository import actions as repository

BATCH_SIZE = 200


class TouchpointEcho:
    """Posts waiting touchpoints to ingest."""

    def __init__(
        self, session: Session, client: httpx2.AsyncClient, ingest_url: str, write_key: str
    ) -> None:
        self._session = session
        self._client = client
        self._url = urljoin(ingest_url, "/v1/batch")
        self._write_key = write_key

    async def send_waiting(self) -> bool:
        """Post what waits; return whether there may be more. Raises Unavailable when the door does not take it."""
        async with self._session.acquire() as connection:
            waiting = await repository.list_echoes(connection, BATCH_SIZE)
            if not waiting:
                return False
            await self._post(b'{"batch":[' + b",".join(body for _, body in waiting) + b"]}")
            await repository.delete_echoes(connection, [number for number, _ in waiting])
        return len(waiting) == BATCH_SIZE

    async def _post(self, body: bytes) -> None:
        try:
            answer = await self._client.post(
                self._url, content=body, auth=(self._write_key, ""), timeout=10
            )
        except httpx2.HTTPError as error:
            raise Unavailable(f"ingest at {self._url} does not answer: {error!r}") from None
        if answer.status_code != 200:
            raise Unavailable(
                f"ingest at {self._url} answered {answer.status_code}: {answer.text[:200]}"
            )
