"""One interaction between a person and the brand, as ingest accepted it."""

from typing import Annotated, Any, ClassVar, Literal

import msgspec

Mode = Literal["live", "historical", "test"]
Initiative = Literal["contact", "brand", "market"]
Scope = Literal["contact", "account", "market"]
Evidence = Literal["observed", "declared"]
CallType = Literal["track", "identify", "page", "screen", "group", "alias"]


PERSONAL = msgspec.Meta(extra_json_schema={"x-personal-data": True})
"""Marks in the schema what names a person, or may."""


class Touchpoint(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """`occurred_at` is the corrected instant; `original_timestamp` is what the sender wrote, if it differs.

    What the message alone tells (`channel` to `effort`) is empty or None where it says nothing; `value` is in `currency`
    (ISO 4217), `sentiment` from -1 to 1, `effort` from 0 to 10. `classifier_version` is that of the lists it was read by.
    `verified_email` (lower case) and `external_ids` ({system: id}) are those that a server vouches for.
    """

    KIND: ClassVar[str] = "perigee.touchpoint.v1"
    TOPIC: ClassVar[str] = "touchpoints"

    workspace: str
    source: str
    message_id: str
    type: CallType
    occurred_at: int
    received_at: int
    name: str = ""
    user_id: Annotated[str | None, PERSONAL] = None
    anonymous_id: Annotated[str | None, PERSONAL] = None
    previous_id: Annotated[str | None, PERSONAL] = None
    group_id: str | None = None
    verified_email: Annotated[str | None, PERSONAL] = None
    external_ids: Annotated[dict[str, str], PERSONAL] = {}
    initiative: Initiative = "contact"
    evidence: Evidence = "observed"
    mode: Mode = "live"
    is_bot: bool = False
    trust: Literal["public", "server"] = "public"
    channel: str = ""
    sent_at: int | None = None
    original_timestamp: int | None = None
    clock_corrected: bool = False
    consent: dict[str, bool] = {}
    campaign: dict[str, str] = {}
    traits: Annotated[dict[str, Any], PERSONAL] = {}
    properties: dict[str, Any] = {}
    context: Annotated[dict[str, Any], PERSONAL] = {}
    classifier_version: str = ""
    device_class: str = ""
    page_path: str = ""
    content_id: str = ""
    content_type: str = ""
    locale: str = ""
    timezone: str = ""
    value: float | None = None
    currency: str = ""
    sentiment: float | None = None
    effort: float | None = None

    @property
    def key(self) -> tuple[int, str, str]:
        """Return where this touchpoint stands in the one order: (occurred_at, source, message_id)."""
        return (self.occurred_at, self.source, self.message_id)

    @property
    def scope(self) -> Scope:
        """Return whom it concerns: one that names no person is about an account, or else the market where it says so."""
        if self.user_id or self.anonymous_id or self.external_ids or self.verified_email:
            return "contact"
        if self.group_id:
            return "account"
        return "market" if self.initiative == "market" else "contact"

    def routing_key(self) -> str:
        """Return the Kafka key: workspace and the strongest identifier, so that a person's calls stay in order."""
        person = self.user_id or self.anonymous_id or self._external_id() or self.verified_email
        return f"{self.workspace}:{person or self.group_id or self.message_id}"

    def _external_id(self) -> str | None:
        return next(
            (f"{system}:{value}" for system, value in sorted(self.external_ids.items())), None
        )
