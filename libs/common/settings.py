"""Settings that every service has. The environment is read here and in each service's `settings.py`, nowhere else."""

from typing import Any

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from libs.common.errors import ConfigurationError


class CommonSettings(BaseSettings):
    """Where the servers are and how this process shows itself."""

    model_config = SettingsConfigDict(extra="ignore", populate_by_name=True, frozen=True)

    kafka_bootstrap_servers: str = Field(validation_alias="KAFKA_BOOTSTRAP_SERVERS")
    database_url: str = Field(validation_alias="DATABASE_URL")
    host: str = Field("127.0.0.1", validation_alias="PERIGEE_HOST", description="address the process listens on")
    partitions: int = Field(6, ge=1, validation_alias="PERIGEE_PARTITIONS", description="partitions of each topic")
    session_timeout_ms: int = Field(
        10_000, ge=500, validation_alias="PERIGEE_SESSION_TIMEOUT_MS", description="consumer group session time-out"
    )
    admin_key: str = Field(
        "",
        validation_alias="PERIGEE_ADMIN_KEY",
        repr=False,
        description="the operator's key: opens every door; none without",
    )
    service_key: str = Field(
        "",
        validation_alias="PERIGEE_SERVICE_KEY",
        repr=False,
        description="reads contacts and changes of workspace default",
    )
    failpoint: str = Field("", validation_alias="PERIGEE_FAILPOINT", description="tests only: die at this point")


def load(settings: type[BaseSettings], **values: Any) -> Any:
    """Read `settings` from the environment; `values` override it.

    Raises ConfigurationError naming each variable that is missing or wrong.
    """
    try:
        return settings(**values)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ConfigurationError(f"settings: {faults}. 'perigee env' prints those of a running instance.") from None
