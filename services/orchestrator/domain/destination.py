"""Destinations of messages: named URLs of webhooks, Slack channels, CRMs and ad audiences."""

import base64
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from services.orchestrator.webhooks.standard_webhooks import SIGNING_PREFIX


class Destination(BaseModel):
    """A named receiver."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    destination: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,59}$")
    channel: Literal["webhook", "slack", "crm_task", "audience"]
    url: str = Field(pattern=r"^https?://\S+$")
    secret: str = Field("", repr=False, pattern=r"^[!-~]*$")
    """The signing secret of a webhook or an ad audience, or the access token of a CRM."""
    crm: Literal["hubspot", "salesforce"] | None = None

    @model_validator(mode="after")
    def _check_channel_fields(self) -> "Destination":
        if (self.channel == "crm_task") != (self.crm is not None):
            raise ValueError("a destination has `crm` if, and only if, its channel is `crm_task`")
        if self.channel == "crm_task" and not self.secret:
            raise ValueError("a crm_task destination needs `secret`, the access token of the CRM")
        if (
            self.channel in ("webhook", "audience")
            and self.secret
            and not _is_signing_secret(self.secret)
        ):
            raise ValueError(
                f"`secret` must be {SIGNING_PREFIX} followed by 24 to 64 bytes in base64"
            )
        return self


def _is_signing_secret(secret: str) -> bool:
    try:
        size = len(
            base64.b64decode(secret.removeprefix(SIGNING_PREFIX).encode("ascii"), validate=True)
        )
    except ValueError:
        return False
    return secret.startswith(SIGNING_PREFIX) and 24 <= size <= 64
