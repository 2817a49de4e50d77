"""Where messages of a channel go: a webhook's or a Slack channel's address, by name."""

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
    """What signs (a webhook's), or the token that opens (a CRM's)."""
    crm: Literal["hubspot", "salesforce"] | None = None

    @model_validator(mode="after")
    def _fits_the_channel(self) -> "Destination":
        if (self.channel == "crm_task") != (self.crm is not None):
            raise ValueError("`crm` says which CRM a crm_task goes to, and nothing else")
        if self.channel == "crm_task" and not self.secret:
            raise ValueError("a CRM's `secret` is the token that opens it")
        if self.channel in ("webhook", "audience") and self.secret and not _signs(self.secret):
            raise ValueError(f"a secret is {SIGNING_PREFIX} and 24 to 64 bytes in base64")
        return self


def _signs(secret: str) -> bool:
    try:
        size = len(
            base64.b64decode(secret.removeprefix(SIGNING_PREFIX).encode("ascii"), validate=True)
        )
    except ValueError:
        return False
    return secret.startswith(SIGNING_PREFIX) and 24 <= size <= 64
