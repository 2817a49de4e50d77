"""Settings of ingest."""

import tempfile
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from libs.common.settings import LinkSettings
from services.ingest.domain.channel_rules import parse_channel_rules
from services.ingest.domain.privacy import IpRule
from services.ingest.domain.request_context import NormalisationRules

CHANNELS = Path(__file__).parent / "channels.yaml"


class PreparationSettings(BaseSettings):
    """What `services.ingest.prepare` needs."""

    model_config = SettingsConfigDict(extra="ignore", populate_by_name=True, frozen=True)

    database_url: str = Field(validation_alias="DATABASE_URL")


class IngestSettings(LinkSettings):
    """What ingest needs beside the common settings."""

    port: int = Field(8080, validation_alias="PERIGEE_PORT")
    publish_seconds: float = Field(
        4.5,
        gt=0,
        validation_alias="PERIGEE_PUBLISH_SECONDS",
        description="longest wait for Kafka before a 503",
    )
    ip_rule: IpRule = Field(
        "drop", validation_alias="PERIGEE_IP", description="drop, or truncate to /24 and /48"
    )
    channels: Path = Field(
        CHANNELS,
        validation_alias="PERIGEE_CHANNELS",
        description="how touchpoints get their channel",
    )
    import_folder: Path = Field(
        Path(tempfile.gettempdir()) / "perigee-imports",
        validation_alias="PERIGEE_IMPORT_FOLDER",
        description="where uploaded files wait to be imported, and their rejects stay",
    )
    import_bytes: int = Field(
        2 << 30, gt=0, validation_alias="PERIGEE_IMPORT_BYTES", description="most of one upload"
    )
    sources_refresh_seconds: float = Field(
        15.0,
        gt=0,
        validation_alias="PERIGEE_SOURCES_REFRESH_SECONDS",
        description="seconds until sources are read again without a notification",
    )

    def normalisation_rules(self) -> NormalisationRules:
        """Return what is set for all sources. Raises ConfigurationError for lists that cannot be read."""
        channels = parse_channel_rules(self.channels.read_text(), str(self.channels))
        return NormalisationRules(channels, self.ip_rule, self.link_signing_keys())
