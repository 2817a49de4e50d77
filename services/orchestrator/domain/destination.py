"""Where messages of a channel go: a webhook's or a Slack channel's address, by name."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Destination(BaseModel):
    """A named receiver. `secret` signs what is posted to a webhook (Standard Webhooks)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    destination: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,59}$")
    channel: Literal["webhook", "slack"]
    url: str
    secret: str = Field("", repr=False)
