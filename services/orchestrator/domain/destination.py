"""Where messages of a channel go: a webhook's or a Slack channel's address, by name."""

import base64
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from services.orchestrator.domain.webhook import PREFIX


class Destination(BaseModel):
    """A named receiver. `secret` signs what is posted to a webhook (Standard Webhooks)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    destination: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,59}$")
    channel: Literal["webhook", "slack"]
    url: str
    secret: str = Field("", repr=False)

    @field_validator("secret")
    @classmethod
    def _signs(cls, found: str) -> str:
        if found:
            try:
                size = len(base64.b64decode(found.removeprefix(PREFIX).encode("ascii"), validate=True))
            except ValueError:
                size = 0
            if not found.startswith(PREFIX) or not 24 <= size <= 64:
                raise ValueError(f"a secret is {PREFIX} and 24 to 64 bytes in base64")
        return found
