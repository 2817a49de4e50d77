"""An uploaded file as it is stored: its name, and the record beside it."""

from pathlib import Path
from typing import Any

import msgspec

from libs.common import ids
from libs.common.api_keys import DEFAULT_WORKSPACE
from libs.common.ids import WorkspaceId
from services.ingest.domain.source import SourceKey

FINGERPRINT_CHARACTERS = 8
"""Characters of the fingerprint in a kept file's name."""


class QueuedUpload(msgspec.Struct, frozen=True):
    """A stored file and its mapping and mode, written beside it to survive a restart.

    `content` is the SHA-256 of the file in hexadecimal, `mapping` the template's tree.
    """

    content: str
    file: str
    source: str
    mapping: Any
    historical: bool
    workspace: WorkspaceId = DEFAULT_WORKSPACE

    @property
    def import_key(self) -> tuple[str, str, str]:
        """Return (workspace, source, content)."""
        return self.workspace, self.source, self.content


class AcceptedUpload(msgspec.Struct, frozen=True):
    """Answer to an upload: the SHA-256 of the file, and of mapping and mode, in hexadecimal.

    `finished_before`: the same file was imported in the same way; it is not kept and adds nothing.
    """

    content: str
    fingerprint: str
    finished_before: bool


def stored_stem(content: str, source_key: SourceKey) -> str:
    """Return the start of a stored file's name: digest and source."""
    return f"{content}-{ids.derive_id('upload', *source_key)[:8]}"


def stored_name(path: Path, content: str, source_key: SourceKey, fingerprint: str) -> str:
    """Return the name of a stored file: digest, source, fingerprint, ending of its format."""
    ending = "".join(path.suffixes[-2:] if path.suffix == ".gz" else path.suffixes[-1:])
    return f"{stored_stem(content, source_key)}-{fingerprint[:FINGERPRINT_CHARACTERS]}{ending}"
