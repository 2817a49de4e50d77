"""Touchpoint echo: posts touchpoints about sent messages to the ingest API.

They are posted with the orchestrator's own write key, at least once. The `messageId` is derived
from the action, so scoring drops repeats.
"""

from urllib.parse import urljoin

import httpx2

from libs.common.db.connection import Session
from libs.common.errors import Unavailable
from services.orchestrator.repository import echoes

BATCH_SIZE = 200


class TouchpointEcho:
    """Posts the waiting touchpoints in batches."""

    def __init__(
        self, session: Session, client: httpx2.AsyncClient, ingest_url: str, write_key: str
    ) -> None:
        self._session = session
        self._client = client
        self._url = urljoin(ingest_url, "/v1/batch")
        self._write_key = write_key

    async def send_waiting(self) -> bool:
        """Post a batch; return whether to go on. Raises Unavailable if ingest rejects it."""
        async with self._session.acquire() as connection:
            waiting = await echoes.list_echoes(connection, BATCH_SIZE)
            if not waiting:
                return False
            await self._post(b'{"batch":[' + b",".join(body for _, body in waiting) + b"]}")
            await echoes.delete_echoes(connection, [number for number, _ in waiting])
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
