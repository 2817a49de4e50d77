"""Short definitions of plays for tests."""

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
    definition = {
        "play": name,
        "trigger": {"signal": "quote_requested"},
        "re_entry": "always",
        **more,
        "steps": steps,
    }
    return yaml.safe_dump(definition, sort_keys=False)


async def enrollments(orchestrator):
    return await orchestrator.fetch(
        "SELECT play, number, status, reason FROM orchestrator.enrollments "
        "ORDER BY entered_at, 1, 2"
    )
