"""Deterministic identifiers: the same cause always has the same id, so a repeat can be recognised."""

from hashlib import blake2b

_LENGTHS = [length.to_bytes(4, "big") for length in range(256)]


def hash_parts(*parts: str) -> bytes:
    """Return 16 bytes that depend on every part and on where one part ends and the next begins.

    BLAKE2b-128 (RFC 7693) over the parts, each preceded by its length.
    """
    whole = b""
    for part in parts:
        raw = part.encode("utf-8", "surrogatepass")
        whole += _LENGTHS[len(raw)] if len(raw) < 256 else len(raw).to_bytes(4, "big")
        whole += raw
    return blake2b(whole, digest_size=16).digest()


def derive_id(*parts: str) -> str:
    """Return `digest` of the parts as 32 hexadecimal characters.

    >>> derive("default", "user_id", "u1") == derive("default", "user_id", "u1")
    True
    """
    return hash_parts(*parts).hex()


def derived_message_id(workspace: str, source: str, message_id: str) -> str:
    """Return the message id of the touchpoint by which what one person did acts on another; it goes when its cause goes."""
    return f"consequence-{derive_id('consequence', workspace, source, message_id)}"
