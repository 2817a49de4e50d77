"""Settings that every service has. The environment is read here and in each service's `settings.py`, nowhere else."""

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
        "ADMIN_KEY", "BASELINE", "CAP_PER_DAY", "CAP_PER_WEEK", "CHANNELS", "CONTENT", "CYCLES", "FAILPOINT", "HOST",
        "IMPORT_BYTES", "IMPORT_FOLDER", "IP", "LINK_KEYS", "MAX_AGE", "PARTITIONS", "PLAYS", "PORT", "PRIVATE_WEBHOOKS",
        "PUBLISH_SECONDS", "QUIET_FROM", "QUIET_TO", "REACTION_WINDOW", "SEGMENTS", "SENDER", "SERVICE_KEY", "SESSION_TIMEOUT_MS",
        "SITE", "SOURCES_REFRESH_SECONDS",
    )
)  # fmt: skip
"""Settings of any service: all may lie in one environment. A test compares them with what the services declare."""
_ELSEWHERE = frozenset(
    PREFIX + name
    for name in (
        "COMPOSE", "FAULTS", "FIRST_SEED", "HOME", "KEY", "LISTEN", "SDKS", "SEED", "SEEDS", "TEST_SERVERS", "VERSION",
        "WORKSPACE",
    )
)  # fmt: skip
"""What the command line, compose and the tests read."""
_OTHERS = re.compile(r".*_PORT|.*_SERVICE_HOST|.*_SERVICE_PORT.*|.*_PORT_\d+_(TCP|UDP)(_.*)?")
"""Ports of single processes, and what Kubernetes tells of services that are called so."""


class CommonSettings(BaseSettings):
    """Where the servers are and how this process shows itself."""

    model_config = SettingsConfigDict(extra="ignore", populate_by_name=True, frozen=True)

    kafka_bootstrap_servers: str = Field(validation_alias="KAFKA_BOOTSTRAP_SERVERS")
    database_url: str = Field(validation_alias="DATABASE_URL")
    host: str = Field(
        "127.0.0.1", validation_alias="PERIGEE_HOST", description="address the process listens on"
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
        description="the operator's key: opens every door; none without",
    )
    service_key: str = Field(
        "",
        validation_alias="PERIGEE_SERVICE_KEY",
        repr=False,
        description="reads contacts and changes of workspace default",
    )
    otlp_endpoint: str = Field(
        "",
        validation_alias="OTEL_EXPORTER_OTLP_ENDPOINT",
        description="where spans go (OTLP over HTTP); needs the extra otel",
    )
    failpoint: str = Field(
        "", validation_alias="PERIGEE_FAILPOINT", description="tests only: die at this point"
    )


class LinkSettings(CommonSettings):
    """What services need that write links to persons, or read them."""

    link_keys: str = Field(
        "",
        validation_alias="PERIGEE_LINK_KEYS",
        repr=False,
        description="secrets that sign links to persons, with commas between: the first signs, all are believed",
    )

    def link_signing_keys(self) -> tuple[str, ...]:
        """Return the secrets, the one that signs first."""
        return tuple(key.strip() for key in self.link_keys.split(",") if key.strip())


def load_settings(settings: type[BaseSettings], **values: Any) -> Any:
    """Read `settings` from the environment; `values` override it.

    Raises ConfigurationError naming each variable that is missing, wrong, or begins with PERIGEE_ and is no setting.
    """
    unknown = [*_unknown(os.environ)]
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


def _unknown(names: Iterable[str]) -> Iterable[str]:
    known = NAMES | _ELSEWHERE
    for name in sorted(names):
        if name.startswith(PREFIX) and name not in known and not _OTHERS.fullmatch(name):
            close = difflib.get_close_matches(name, known, 1)
            yield f"{name} is no setting" + (f", {close[0]} is" if close else "")
