"""Settings of ingest."""

from pathlib import Path

from pydantic import Field

from libs.common.settings import CommonSettings
from services.ingest.domain.privacy import IpRule

CHANNELS = Path(__file__).parent / "channels.yaml"


class IngestSettings(CommonSettings):
    """What ingest needs beside the common settings."""

    port: int = Field(8080, validation_alias="PERIGEE_PORT")
    publish_seconds: float = Field(
        4.5, gt=0, validation_alias="PERIGEE_PUBLISH_SECONDS", description="longest wait for Kafka before a 503"
    )
    admin_key: str = Field(
        "", validation_alias="PERIGEE_ADMIN_KEY", description="opens /admin/v1; without one it stays shut"
    )
    ip_rule: IpRule = Field("drop", validation_alias="PERIGEE_IP", description="drop, or truncate to /24 and /48")
    channels: Path = Field(
        CHANNELS,
        validation_alias="PERIGEE_CHANNELS",
        description="how touchpoints get their channel",
    )
    sources_refresh_seconds: float = Field(1.0, gt=0, validation_alias="PERIGEE_SOURCES_REFRESH_SECONDS")
