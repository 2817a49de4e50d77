"""Deterministic identifiers: the same cause has the same id, so a repeat can be recognised."""

from hashlib import blake2b
from typing import NewType

WorkspaceId = NewType("WorkspaceId", str)
"""Name of a workspace. Every row and message belongs to one, and nothing crosses from it."""
ContactId = NewType("ContactId", str)
"""32 hexadecimal characters. After a merge an alias leads to the canonical contact id.

Accounts are folded like contacts and in the same tables, so their ids are of this type too.
"""

_LENGTHS = [length.to_bytes(4, "big") for length in range(256)]


def hash_parts(*parts: str) -> bytes:
    """Return 16 bytes that depend on every part and on the boundaries between the parts.

    BLAKE2b-128 (RFC 7693) over the parts, each preceded by its length.
    """
    encoded = b""
    for part in parts:
        raw = part.encode("utf-8", "surrogatepass")
        encoded += _LENGTHS[len(raw)] if len(raw) < 256 else len(raw).to_bytes(4, "big")
        encoded += raw
    return blake2b(encoded, digest_size=16).digest()


def derive_id(*parts: str) -> str:
    """Return `hash_parts` of the parts as 32 hexadecimal characters.

    >>> derive_id("default", "user_id", "u1") == derive_id("default", "user_id", "u1")
    True
    """
    return hash_parts(*parts).hex()


def derived_message_id(workspace: WorkspaceId, source: str, message_id: str) -> str:
    """Return the message id of a touchpoint that another contact's touchpoint causes.

    The id derives from the cause, so the consequence can be removed together with it.
    """
    return f"consequence-{derive_id('consequence', workspace, source, message_id)}"
