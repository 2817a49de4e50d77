"""Settings of every service.

The environment is read here and in each service's `settings.py`, nowhere else.
"""

import difflib
import os
import re
from collections.abc import Iterable
from typing import Any

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from libs.common.errors import ConfigurationError

PREFIX = "PERIGEE_"
NAMES = frozenset(
    PREFIX + name
    for name in (
        "ADMIN_KEY", "BASELINE", "CAP_PER_DAY", "CAP_PER_WEEK", "CHANNELS", "CONTENT", "CYCLES",
        "FAILPOINT", "HOST", "IMPORT_BYTES", "IMPORT_FOLDER", "IP", "LINK_KEYS", "MAX_AGE",
        "PARTITIONS", "PLAYS", "PORT", "PRIVATE_WEBHOOKS", "PUBLISH_SECONDS", "QUIET_FROM",
        "QUIET_TO", "REACTION_WINDOW", "SEGMENTS", "SENDER", "SERVICE_KEY", "SESSION_TIMEOUT_MS",
        "SITE", "SOURCES_REFRESH_SECONDS",
    )
)  # fmt: skip
"""Settings of all services, which may share one environment; a test compares them with the code."""
_OTHER_PROGRAMS = frozenset(
    PREFIX + name
    for name in (
        "COMPOSE", "FAULTS", "FIRST_SEED", "HOME", "KEY", "LISTEN", "SDKS", "SEED", "SEEDS",
        "TEST_SERVERS", "VERSION", "WORKSPACE",
    )
)  # fmt: skip
"""Variables that the command line, compose and the tests read."""
_IGNORED = re.compile(r".*_PORT|.*_SERVICE_HOST|.*_SERVICE_PORT.*|.*_PORT_\d+_(TCP|UDP)(_.*)?")
"""Ports of single processes, and the variables that Kubernetes sets for services."""


class CommonSettings(BaseSettings):
    """Addresses of the servers, and settings of this process."""

    model_config = SettingsConfigDict(extra="ignore", populate_by_name=True, frozen=True)

    kafka_bootstrap_servers: str = Field(validation_alias="KAFKA_BOOTSTRAP_SERVERS")
    database_url: str = Field(validation_alias="DATABASE_URL")
    host: str = Field(
        "127.0.0.1", validation_alias="PERIGEE_HOST", description="address to listen on"
    )
    partitions: int = Field(
        6, ge=1, validation_alias="PERIGEE_PARTITIONS", description="partitions of each topic"
    )
    session_timeout_ms: int = Field(
        10_000,
        ge=500,
        validation_alias="PERIGEE_SESSION_TIMEOUT_MS",
        description="consumer group session time-out",
    )
    admin_key: str = Field(
        "",
        validation_alias="PERIGEE_ADMIN_KEY",
        repr=False,
        description="the operator's key, with every scope; empty: no such key",
    )
    service_key: str = Field(
        "",
        validation_alias="PERIGEE_SERVICE_KEY",
        repr=False,
        description="key that reads contacts and changes of workspace default",
    )
    otlp_endpoint: str = Field(
        "",
        validation_alias="OTEL_EXPORTER_OTLP_ENDPOINT",
        description="OTLP over HTTP endpoint for spans; needs the extra otel",
    )
    failpoint: str = Field(
        "",
        validation_alias="PERIGEE_FAILPOINT",
        description="tests only: kill the process at this point",
    )


class LinkSettings(CommonSettings):
    """Settings of services that write or read personal links."""

    link_keys: str = Field(
        "",
        validation_alias="PERIGEE_LINK_KEYS",
        repr=False,
        description="secrets for personal links, separated by commas: the first signs, all verify",
    )

    def link_signing_keys(self) -> tuple[str, ...]:
        """Return the secrets, the signing one first."""
        return tuple(key.strip() for key in self.link_keys.split(",") if key.strip())


def load_settings(settings: type[BaseSettings], **values: Any) -> Any:
    """Read `settings` from the environment; `values` override it.

    Raises ConfigurationError with each variable that is missing, invalid, or unknown although it
    begins with PERIGEE_.
    """
    unknown = [*_unknown_names(os.environ)]
    if unknown:
        raise ConfigurationError(
            f"settings: {'; '.join(unknown)}. docs/configuration.md lists them all."
        )
    try:
        return settings(**values)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ConfigurationError(
            f"settings: {faults}. 'perigee env' prints those of a running instance."
        ) from None


def _unknown_names(names: Iterable[str]) -> Iterable[str]:
    settings = NAMES | _OTHER_PROGRAMS
    for name in sorted(names):
        if name.startswith(PREFIX) and name not in settings and not _IGNORED.fullmatch(name):
            close = difflib.get_close_matches(name, settings, 1)
            yield f"{name} is no setting" + (f", {close[0]} is" if close else "")
