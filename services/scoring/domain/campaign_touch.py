"""First and last campaign touch of a contact; neither ever overwrites the other."""

from collections.abc import Sequence

import msgspec

from libs.common.messages import Touchpoint


class CampaignTouch(msgspec.Struct, frozen=True):
    """A touchpoint with a channel or a campaign.

    `at` is microseconds UTC; `campaign` has the five UTM parameters.
    """

    at: int
    channel: str
    campaign: dict[str, str]
    source: str
    message_id: str


def first_and_last_touch(
    touchpoints: Sequence[Touchpoint],
) -> tuple[CampaignTouch | None, CampaignTouch | None]:
    """Return the first and the last touch among touchpoints in key order; (None, None) without any.

    Touchpoints of the contact's initiative count; bots, tests and the brand's own sending do not.
    """
    touches = [
        t
        for t in touchpoints
        if (t.channel or t.campaign)
        and t.initiative == "contact"
        and not t.is_bot
        and t.mode != "test"
    ]
    return (_touch(touches[0]), _touch(touches[-1])) if touches else (None, None)


def _touch(touchpoint: Touchpoint) -> CampaignTouch:
    t = touchpoint
    return CampaignTouch(t.occurred_at, t.channel, t.campaign, t.source, t.message_id)
