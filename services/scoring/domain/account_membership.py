"""Account membership over time, and the accounts that a touchpoint counts for.

A `group` call joins the contact to an account from the call's key on; a track call "Account Removed
User" with the account's groupId ends the membership. A touchpoint that names an account counts for
that account only; any other touchpoint counts for every account of which its contact is a member at
the touchpoint's key.
"""

import msgspec

from libs.common import ids
from libs.common.ids import ContactId, WorkspaceId
from libs.common.messages import Touchpoint
from services.scoring.domain.identity import is_junk

LEAVE_EVENT = "Account Removed User"


def account_id_of(touchpoint: Touchpoint) -> ContactId | None:
    """Return the id of the account that the touchpoint names; None without a usable groupId."""
    if touchpoint.group_id is None or is_junk(touchpoint.group_id):
        return None
    return derive_account_id(touchpoint.workspace, touchpoint.group_id)


def derive_account_id(workspace: WorkspaceId, group_id: str) -> ContactId:
    """Return the account's id, a hash of workspace and groupId."""
    return ContactId(ids.derive_id("account", workspace, group_id))


def is_membership_event(touchpoint: Touchpoint) -> bool:
    """Return whether the touchpoint starts or ends a membership in the account that it names."""
    return account_id_of(touchpoint) is not None and (
        touchpoint.type == "group" or touchpoint.name == LEAVE_EVENT
    )


class MembershipTracker(msgspec.Struct):
    """Memberships after the last touchpoint added; touchpoints are added in key order."""

    accounts: dict[str, set[ContactId]] = {}
    """{contact: account ids}"""

    def add_touchpoint(self, contact: str, touchpoint: Touchpoint) -> set[ContactId]:
        """Apply the touchpoint's membership change; return the accounts that it counts for."""
        named_account = account_id_of(touchpoint)
        memberships = self.accounts.get(contact)
        if named_account is None:
            return memberships or set()
        if touchpoint.type == "group":
            self.accounts.setdefault(contact, set()).add(named_account)
        elif touchpoint.name == LEAVE_EVENT and memberships:
            memberships.discard(named_account)
        return {named_account}
