"""Plays for tests, short to write."""

import yaml

from tests.support.touchpoints import DAY, START

NOW = START + 2 * DAY


def mail(name="mail", **more):
    return {
        "action": name,
        "channel": "email",
        "mail": {"subject": name, "text": "t {{ unsubscribe_url }}"},
        **more,
    }


def play(steps, name="quote", **more):
    whole = {
        "play": name,
        "trigger": {"signal": "quote_requested"},
        "re_entry": "always",
        **more,
        "steps": steps,
    }
    return yaml.safe_dump(whole, sort_keys=False)


async def runs(orchestrator):
    return await orchestrator.fetch(
        "SELECT play, number, status, reason FROM orchestrator.enrollments ORDER BY entered_at, 1, 2"
    )
