"""First and last touch: where a person came from at first, and where from the last time. Neither ever overwrites the other."""

from collections.abc import Sequence

import msgspec

from libs.common.messages import Touchpoint


class CampaignTouch(msgspec.Struct, frozen=True):
    """A touchpoint that says where somebody came from; `campaign` has the UTM five."""

    at: int
    channel: str
    campaign: dict[str, str]
    source: str
    message_id: str


def first_and_last_touch(
    found: Sequence[Touchpoint],
) -> tuple[CampaignTouch | None, CampaignTouch | None]:
    """Return the first and the last touch among touchpoints in key order.

    What the person did counts and says where from; machines, the brand's own sending and tests do not.
    """
    told = [
        t
        for t in found
        if (t.channel or t.campaign)
        and t.initiative == "contact"
        and not t.is_bot
        and t.mode != "test"
    ]
    return (_touch(told[0]), _touch(told[-1])) if told else (None, None)


def _touch(touchpoint: Touchpoint) -> CampaignTouch:
    t = touchpoint
    return CampaignTouch(t.occurred_at, t.channel, t.campaign, t.source, t.message_id)
