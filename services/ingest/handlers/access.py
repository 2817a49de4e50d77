"""Use cases of workspaces and of their service and admin keys."""

from collections.abc import Sequence

from libs.common.api_keys import KeyKind
from libs.common.db import api_keys
from libs.common.db.api_keys import ApiKey
from libs.common.db.connection import Session
from libs.common.db.unit_of_work import unit_of_work
from libs.common.errors import NotFound
from libs.common.ids import WorkspaceId


class AccessService:
    """Creates workspaces and keys, rotates and revokes keys."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def list_workspaces(self) -> list[str]:
        """Return the workspaces by name."""
        async with self._session.acquire() as connection:
            return await api_keys.list_workspaces(connection)

    async def create_workspace(self, name: str) -> None:
        """Create a workspace.

        Raises Conflict when the name is taken, ConfigurationError for a bad name.
        """
        async with self._session.acquire() as connection, unit_of_work(connection):
            await api_keys.insert_workspace(connection, WorkspaceId(name))

    async def list_keys(self, workspace: WorkspaceId) -> list[ApiKey]:
        """Return a workspace's valid keys, newest first."""
        async with self._session.acquire() as connection:
            return await api_keys.list_keys(connection, workspace)

    async def create_key(
        self, workspace: WorkspaceId, name: str, kind: KeyKind, scopes: Sequence[str]
    ) -> str:
        """Create a key and return it, this once: only its hash is stored.

        Raises NotFound, ConfigurationError.
        """
        async with self._session.acquire() as connection, unit_of_work(connection):
            return await api_keys.insert_key(connection, workspace, name, kind, tuple(scopes))

    async def rotate_key(self, workspace: WorkspaceId, name: str, overlap: float) -> str:
        """Give a name a new key; the old ones stay valid for `overlap` more seconds.

        Raises NotFound, Conflict.
        """
        async with self._session.acquire() as connection, unit_of_work(connection):
            return await api_keys.insert_rotated_key(connection, workspace, name, overlap)

    async def revoke_keys(self, workspace: WorkspaceId, name: str, hint: str) -> int:
        """End a name's keys that begin with `hint` at once; return how many.

        Raises NotFound when there is none.
        """
        async with self._session.acquire() as connection, unit_of_work(connection):
            count = await api_keys.update_key_ends(connection, workspace, name, 0, hint)
        if not count:
            raise NotFound(
                f"workspace {workspace} has no valid key named {name!r:.80} "
                f"that begins with {hint!r:.80}"
            )
        return count
