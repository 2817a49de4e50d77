"""Who belongs to which account, in time, and which touchpoints count for it.

A `group` call joins the person to an account from its key on, a track call "Account Removed User" with the account's
groupId ends that. A touchpoint that names an account counts for that one; any other counts for every account that its
person belongs to at its key.
"""

import msgspec

from libs.common import ids
from libs.common.messages import Touchpoint
from services.scoring.domain.identity import is_junk

LEAVE_EVENT = "Account Removed User"


def group_id_of(touchpoint: Touchpoint) -> str | None:
    """Return the id of the account that the touchpoint names."""
    if touchpoint.group_id is None or is_junk(touchpoint.group_id):
        return None
    return derive_account_id(touchpoint.workspace, touchpoint.group_id)


def derive_account_id(workspace: str, group_id: str) -> str:
    """Return an account's id."""
    return ids.derive_id("account", workspace, group_id)


def is_membership_event(touchpoint: Touchpoint) -> bool:
    """Return whether the touchpoint joins its person to the account it names, or ends that."""
    return group_id_of(touchpoint) is not None and (
        touchpoint.type == "group" or touchpoint.name == LEAVE_EVENT
    )


class MembershipTracker(msgspec.Struct):
    """Who belongs to what, up to the touchpoint seen last; they are seen in key order."""

    accounts: dict[str, set[str]] = {}
    """{person: accounts}"""

    def add_touchpoint(self, person: str, touchpoint: Touchpoint) -> set[str]:
        """Take in a touchpoint, and return the accounts that it counts for."""
        named = group_id_of(touchpoint)
        mine = self.accounts.get(person)
        if named is None:
            return mine or set()
        if touchpoint.type == "group":
            self.accounts.setdefault(person, set()).add(named)
        elif touchpoint.name == LEAVE_EVENT and mine:
            mine.discard(named)
        return {named}
