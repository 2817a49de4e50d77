"""Link tokens: signed tokens in the links of a message that identify its recipient.

The recipient may open a link in an e-mail on any device. The token links that device to the
recipient without a login. A forwarded link identifies its reader as the recipient too, so a token
expires, and authorizes nothing but this link between device and recipient.
"""

from collections.abc import Sequence

import msgspec
from itsdangerous import BadData, URLSafeSerializer

from libs.common.ids import WorkspaceId

LINK_PARAMETER = "pgt"
REFERRAL_PARAMETER = "pgr"
"""Query parameter of a referral link: the referrer's code."""
_SALT = "perigee.link"
_MAX_LENGTH = 2_000


class LinkRecipient(msgspec.Struct, frozen=True):
    """Recipient of a link: a user id, or the e-mail address that the message went to.

    `verified`: a server vouches for the address that the message went to.
    """

    workspace: WorkspaceId
    user_id: str | None = None
    email: str | None = None
    verified: bool = False


def sign_link_token(keys: Sequence[str], recipient: LinkRecipient, ends_at: int) -> str:
    """Return a token signed with the first key, valid until `ends_at` (microseconds UTC)."""
    content = [
        recipient.workspace,
        recipient.user_id,
        recipient.email,
        ends_at,
        recipient.verified,
    ]
    return str(URLSafeSerializer([*reversed(keys)], salt=_SALT).dumps(content))


def verify_link_token(keys: Sequence[str], token: str, now: int) -> LinkRecipient | None:
    """Return the recipient of a token; None when it is expired or signed with no known key."""
    if not keys or len(token) > _MAX_LENGTH:
        return None
    try:
        workspace, user_id, email, ends_at, *optional = URLSafeSerializer(
            [*reversed(keys)], salt=_SALT
        ).loads(token)
    except (BadData, ValueError, TypeError):
        return None
    return LinkRecipient(workspace, user_id, email, optional == [True]) if now < ends_at else None
