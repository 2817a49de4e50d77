"""Settings of the orchestrator."""

from datetime import time
from pathlib import Path

from pydantic import Field

from libs.common.settings import LinkSettings
from services.orchestrator.domain.gate import GateRules
from services.orchestrator.domain.message_links import MessageLinks


class OrchestratorSettings(LinkSettings):
    """Settings of the orchestrator beside the common ones."""

    port: int = Field(8090, validation_alias="PERIGEE_PORT")
    plays: Path = Field(
        Path("plays"), validation_alias="PERIGEE_PLAYS", description="folder of the play files"
    )
    contents: Path = Field(
        Path("content"),
        validation_alias="PERIGEE_CONTENT",
        description="folder of the content files",
    )
    segments: Path = Field(
        Path("segments"),
        validation_alias="PERIGEE_SEGMENTS",
        description="folder of the segment files",
    )
    max_age: str = Field(
        "", validation_alias="PERIGEE_MAX_AGE", description="overrides the plays' max_age, e.g. 31d"
    )
    ingest_url: str = Field(validation_alias="INGEST_URL")
    write_key: str = Field(validation_alias="ORCHESTRATOR_WRITE_KEY", repr=False)
    public_url: str = Field(
        validation_alias="ORCHESTRATOR_URL",
        description="base URL of unsubscribe and referral links",
    )
    unsubscribe_secret: str = Field(
        validation_alias="UNSUBSCRIBE_SECRET", repr=False, min_length=16
    )
    site: str = Field(
        "",
        validation_alias="PERIGEE_SITE",
        pattern=r"^(https?://[^/\s]+/?)?$",
        description="the website: base URL of relative content URLs and target of referral links",
    )
    smtp_url: str = Field(
        validation_alias="SMTP_URL", description="smtp://user:password@host:port; smtps:// for TLS"
    )
    sender: str = Field("Perigee <hello@perigee.example>", validation_alias="PERIGEE_SENDER")
    private_webhooks: bool = Field(
        False,
        validation_alias="PERIGEE_PRIVATE_WEBHOOKS",
        description="allow webhooks to private addresses and over plain HTTP",
    )
    cap_per_day: int = Field(
        3,
        ge=1,
        validation_alias="PERIGEE_CAP_PER_DAY",
        description="daily limit of marketing messages per contact and channel",
    )
    cap_per_week: int = Field(
        10,
        ge=1,
        validation_alias="PERIGEE_CAP_PER_WEEK",
        description="weekly limit of marketing messages per contact and channel",
    )
    baseline: float = Field(
        0.02,
        gt=0,
        lt=1,
        validation_alias="PERIGEE_BASELINE",
        description="expected conversion rate of a broadcast",
    )
    quiet_from: time | None = Field(
        None,
        validation_alias="PERIGEE_QUIET_FROM",
        description="start of quiet hours in local time, e.g. 21:00",
    )
    quiet_to: time | None = Field(
        None,
        validation_alias="PERIGEE_QUIET_TO",
        description="end of quiet hours in local time, e.g. 08:00",
    )

    def gate_rules(self) -> GateRules:
        """Return the caps and quiet hours of the gate."""
        return GateRules(self.cap_per_day, self.cap_per_week, self.quiet_from, self.quiet_to)

    def message_links(self) -> MessageLinks:
        """Return the base URLs and secrets of links in messages."""
        return MessageLinks(
            self.public_url, self.unsubscribe_secret, self.site, self.link_signing_keys()
        )
