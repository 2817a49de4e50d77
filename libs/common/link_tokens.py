"""Links that say for whom they were made: a signed token, minted where a message to a person is written, read at the door.

A link in a mail is opened on whichever device is at hand. The token joins that device to the person, without a login. Whoever is
sent the link on is taken for that person too, so a token has an end, and opens nothing but this.
"""

from collections.abc import Sequence

import msgspec
from itsdangerous import BadData, URLSafeSerializer

LINK_PARAMETER = "pgt"
REFERRAL_PARAMETER = "pgr"
"""The parameter of a link that somebody gave to a friend: the code of who gave it."""
_SALT = "perigee.link"
_LONGEST = 2_000


class LinkRecipient(msgspec.Struct, frozen=True):
    """For whom a link was made: a user id, or the e-mail address that it was sent to.

    `verified` says that a server vouches for the address that a user's link was sent to.
    """

    workspace: str
    user_id: str | None = None
    email: str | None = None
    verified: bool = False


def sign_link_token(keys: Sequence[str], person: LinkRecipient, ends_at: int) -> str:
    """Return the token of a person, signed with the first key, believed until `ends_at` (microseconds UTC)."""
    content = [person.workspace, person.user_id, person.email, ends_at, person.verified]
    return str(URLSafeSerializer([*reversed(keys)], salt=_SALT).dumps(content))


def verify_link_token(keys: Sequence[str], token: str, now: int) -> LinkRecipient | None:
    """Return for whom a token was made; None when no key of ours signed it, or its end has come."""
    if not keys or len(token) > _LONGEST:
        return None
    try:
        workspace, user_id, email, ends_at, *more = URLSafeSerializer(
            [*reversed(keys)], salt=_SALT
        ).loads(token)
    except (BadData, ValueError, TypeError):
        return None
    return LinkRecipient(workspace, user_id, email, more == [True]) if now < ends_at else None
