"""Contacts for plays, created by scoring."""

import msgspec

from libs.common.messages import Signal
from tests.support.scoring import Scoring
from tests.support.touchpoints import HOUR, identify, touchpoint


async def make_subscriber(database, *, consent=True, email="ada@x.test"):
    """Create a subscriber by scoring; return its published signals."""
    scoring = Scoring(database)
    consents = {} if consent is None else {"marketing": consent}
    await scoring.ingest(
        [
            identify(0, consent=consents, traits={"email": email} if email else {}),
            touchpoint(HOUR, "Newsletter Subscribed", user_id="u"),
        ]
    )
    signals = await read_published(scoring)
    await scoring.close()
    return signals


async def read_published(scoring, topic="signals"):
    """Return and delete the messages in scoring's outbox for a topic."""
    rows = await scoring.fetch(
        "DELETE FROM scoring.outbox WHERE topic = $1 RETURNING id, value", topic
    )
    return [value for _, value in sorted(rows)]


async def make_contacts(orchestrator, names, *, traits=None):
    """Create contacts with an address and marketing consent, consumed by the orchestrator.

    Return their contact ids by name.
    """
    scoring = Scoring(orchestrator.database)
    await scoring.ingest(
        [
            identify(
                0, number=f"{name}-i", user_id=name, anonymous_id=None,
                consent={"marketing": True},
                traits={"email": f"{name}@x.test", **(traits or {})},
            )
            for name in names
        ]
    )  # fmt: skip
    rows = await scoring.fetch(
        "SELECT value, contact_id FROM scoring.identifiers WHERE type = 'user_id'"
    )
    await orchestrator.consume(await read_published(scoring))
    await scoring.close()
    return dict(rows)


def signal_message(contact, name="quote_requested", at=0, number=0, **fields):
    """Return a published signal as a Kafka value."""
    base = {
        "id": f"{contact}-{name}-{number}",
        "workspace": "default",
        "contact_id": contact,
        "cycle": "engagement",
        "signal": name,
        "occurred_at": at,
        "received_at": at,
        "source": "web",
        "message_id": f"m-{number}",
    }
    return msgspec.json.encode(Signal(**{**base, **fields}))
