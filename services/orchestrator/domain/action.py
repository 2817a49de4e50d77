"""An action of a play, as a marketer writes it: on which channel, to whom, saying what."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from libs.common.conditions import Condition
from services.orchestrator.domain.message_template import Template

IdentifierName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,59}$")]
ChannelName = Literal["email", "webhook", "slack", "crm_task", "audience", "kafka"]


class StrictModel(BaseModel):
    """A part of a play: fields that it does not know are faults."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class EmailTemplate(StrictModel):
    """What an e-mail says; Liquid templates over `contact`, `event` and `content`."""

    subject: Template
    text: Template
    html: Template | None = None


class ContentRequest(StrictModel):
    """Which content may be offered: of these types, else the fallback by its id."""

    types: list[str] = []
    fallback: str | None = None
    override_gate: bool = False
    """Offers it even to those who are not that far."""


class AdAudience(StrictModel):
    """An advertiser's audience that a contact is added to, as long as `member` holds, or taken out of."""

    name: IdentifierName
    op: Literal["add", "remove"]
    member: Condition | None = None

    @model_validator(mode="after")
    def _only_who_comes_is_asked(self) -> "AdAudience":
        if self.op == "remove" and self.member is not None:
            raise ValueError("`member` is for who is added")
        return self


class ActionSpec(StrictModel):
    """An action on a channel. Its name counts: the same name is the same action in the ledger."""

    action: IdentifierName
    channel: ChannelName
    purpose: Literal["marketing", "transactional"] = "marketing"
    destination: IdentifierName | None = None
    """Where a channel has more than one."""
    content: ContentRequest | None = None
    mail: EmailTemplate | None = None
    text: Template | None = None
    """What a message to a destination says."""
    data: dict[str, Template] = {}
    """Fields of a message to a destination."""
    audience: AdAudience | None = None

    @model_validator(mode="after")
    def _fits_the_channel(self) -> "ActionSpec":
        if self.channel == "email":
            if self.mail is None or self.text is not None or self.data or self.destination:
                raise ValueError("an e-mail has `mail`, and no destination, text or data")
        elif (self.channel == "audience") != (self.audience is not None):
            raise ValueError("an action on the channel `audience`, and no other, has `audience`")
        elif self.audience is not None and (self.text is not None or self.data or self.content):
            raise ValueError(
                "what an advertiser is told of a contact is always the same: no text, data or content"
            )
        elif self.mail is not None or (self.destination is None) != (self.channel == "kafka"):
            where = "no `destination`" if self.channel == "kafka" else "a `destination`"
            raise ValueError(f"{self.channel} has {where}, and no `mail`")
        return self
