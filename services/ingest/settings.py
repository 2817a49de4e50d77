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
    """Settings of `services.ingest.first_sources`."""

    model_config = SettingsConfigDict(extra="ignore", populate_by_name=True, frozen=True)

    database_url: str = Field(validation_alias="DATABASE_URL")


class IngestSettings(LinkSettings):
    """Settings of ingest beside the common ones."""

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
        description="rules by which touchpoints get their channel",
    )
    import_folder: Path = Field(
        Path(tempfile.gettempdir()) / "perigee-imports",
        validation_alias="PERIGEE_IMPORT_FOLDER",
        description="folder of uploaded files, until they are imported, and of rejected rows",
    )
    import_bytes: int = Field(
        2 << 30,
        gt=0,
        validation_alias="PERIGEE_IMPORT_BYTES",
        description="largest upload, in bytes",
    )
    sources_refresh_seconds: float = Field(
        15.0,
        gt=0,
        validation_alias="PERIGEE_SOURCES_REFRESH_SECONDS",
        description="seconds until sources are read again without a notification",
    )

    def normalisation_rules(self) -> NormalisationRules:
        """Return the rules for all sources. Raises ConfigurationError for invalid channel rules."""
        channels = parse_channel_rules(self.channels.read_text(), str(self.channels))
        return NormalisationRules(channels, self.ip_rule, self.link_signing_keys())
