"""Plain calls: page, screen and track calls whose fields all have the usual type.

The type annotations define a plain call. Any other call fails to decode and is left to `normalise`,
so that a wrong field is refused by its name.
"""

from typing import Annotated

import msgspec

from services.ingest.domain.field_values import MAX_ID
from services.ingest.domain.json_body import DECODE_ERRORS, ShallowValue
from services.ingest.domain.privacy import strip_link_tokens

MAX_BYTES = 32 * 1024
"""Size of a call on the fast path."""
Identifier = Annotated[str, msgspec.Meta(max_length=MAX_ID)] | None


class PlainCall(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """A plain call. The values of its context stay encoded: the parts of it are cached."""

    type: str | None = None
    message_id: Identifier = None
    user_id: Identifier = None
    anonymous_id: Identifier = None
    timestamp: str | None = None
    original_timestamp: str | None = None
    sent_at: str | None = None
    event: str | None = None
    name: str | None = None
    properties: dict[str, ShallowValue] | None = None
    context: dict[str, msgspec.Raw] | None = None
    traits: None = None
    group_id: None = None
    previous_id: None = None
    user_hash: None = None


_decode = msgspec.json.Decoder(PlainCall).decode


def parse_plain_call(raw: bytes) -> PlainCall | None:
    """Return a clean message as a plain call; None for any other message."""
    if len(raw) > MAX_BYTES:
        return None
    try:
        return _decode(strip_link_tokens(raw))
    except DECODE_ERRORS:
        return None
