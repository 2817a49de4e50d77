"""Touchpoints: interactions between a contact and the brand, as accepted by ingest."""

from typing import Annotated, Any, ClassVar, Literal

import msgspec

from libs.common.ids import WorkspaceId

Mode = Literal["live", "historical", "test"]
Initiative = Literal["contact", "brand", "market"]
Scope = Literal["contact", "account", "market"]
Evidence = Literal["observed", "declared"]
CallType = Literal["track", "identify", "page", "screen", "group", "alias"]


PERSONAL = msgspec.Meta(extra_json_schema={"x-personal-data": True})
"""Marks a field in the schema that is, or may contain, personal data."""


class Touchpoint(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One interaction between a contact and the brand, as accepted by ingest.

    `occurred_at` is the corrected instant; `original_timestamp` is the sender's, if it differs.
    Fields taken from the message alone (`channel` to `effort`) are empty or None if absent; `value`
    is in `currency` (ISO 4217), `sentiment` from -1 to 1, `effort` from 0 to 10.
    `classifier_version` is the version of the classification lists. A server vouches for
    `verified_email` (lower case) and `external_ids` ({system: id}).
    """

    KIND: ClassVar[str] = "perigee.touchpoint.v1"
    TOPIC: ClassVar[str] = "touchpoints"

    workspace: WorkspaceId
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
        """Return the sort key of the total order: (occurred_at, source, message_id)."""
        return (self.occurred_at, self.source, self.message_id)

    @property
    def scope(self) -> Scope:
        """Return the subject: a contact if identified, else an account, else a declared market."""
        if self.user_id or self.anonymous_id or self.external_ids or self.verified_email:
            return "contact"
        if self.group_id:
            return "account"
        return "market" if self.initiative == "market" else "contact"

    def routing_key(self) -> str:
        """Return the Kafka key: workspace and device, else the strongest known identifier.

        The device comes first so that a visit stays on one partition when the visitor identifies.
        """
        identifier = self.anonymous_id or self.user_id or self._external_id() or self.verified_email
        return f"{self.workspace}:{identifier or self.group_id or self.message_id}"

    def _external_id(self) -> str | None:
        return next(
            (f"{system}:{value}" for system, value in sorted(self.external_ids.items())), None
        )
