"""Short constructors of touchpoints for tests."""

from pathlib import Path
from typing import Any

from cli.home import PROJECT
from libs.common.messages import Touchpoint
from services.scoring.domain.cycle import ActiveCycle, build_cycle
from services.scoring.domain.cycle_parser import parse_cycle_spec
from services.scoring.handlers.cycle_file_reader import read_cycles

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
START = 1_780_000_000 * SECOND
"""An instant in May 2026."""


def touchpoint(at: int = 0, name: str = "Product Viewed", **fields: Any) -> Touchpoint:
    """Return a live track call of anonymous `a` at START + at; any field can be given."""
    number = fields.pop("number", None)
    occurred_at = START + at
    defaults: dict[str, Any] = {
        "workspace": "default",
        "source": "web",
        "message_id": f"m{at}-{name}" if number is None else f"m{number}",
        "type": "track",
        "occurred_at": occurred_at,
        "received_at": occurred_at,
        "name": name,
    }
    if "user_id" not in fields and "anonymous_id" not in fields:
        defaults["anonymous_id"] = "a"
    return Touchpoint(**{**defaults, **fields})


def identify(
    at: int, user_id: str = "u", anonymous_id: str | None = "a", **fields: Any
) -> Touchpoint:
    """Return an identify call."""
    return touchpoint(at, "", type="identify", user_id=user_id, anonymous_id=anonymous_id, **fields)


def shipped() -> ActiveCycle:
    """Return the shipped engagement cycle."""
    return next(c for c in read_cycles(PROJECT / "cycles") if c.engine.name == "engagement")


def small_cycle(text: str | None = None) -> ActiveCycle:
    """Return a cycle with one score and two stages, or the one of `text`."""
    spec = parse_cycle_spec(
        text or (Path(__file__).parent / "small.yaml").read_text(), "small.yaml"
    )
    return build_cycle(spec)
