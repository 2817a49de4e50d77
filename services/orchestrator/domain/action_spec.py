"""Actions of a play as written in its file: channel, destination, content and templates."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from libs.common.conditions import Condition
from services.orchestrator.domain.message_template import Template

IdentifierName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,59}$")]
ChannelName = Literal["email", "webhook", "slack", "crm_task", "audience", "kafka"]


class StrictModel(BaseModel):
    """Base of the parts of a play; unknown fields are faults."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class EmailTemplate(StrictModel):
    """The templates of an e-mail (Liquid) over `contact`, `event` and `content`."""

    subject: Template
    text: Template
    html: Template | None = None


class ContentRequest(StrictModel):
    """A request for content of the given types, or else the fallback by its name."""

    types: list[str] = []
    fallback: str | None = None
    override_gate: bool = False
    """Offers the content also to contacts that have not reached its gate."""


class AdAudience(StrictModel):
    """An ad audience: a contact is added to it while `member` holds, or removed from it."""

    name: IdentifierName
    op: Literal["add", "remove"]
    member: Condition | None = None

    @model_validator(mode="after")
    def _check_member_condition(self) -> "AdAudience":
        if self.op == "remove" and self.member is not None:
            raise ValueError("`member` applies only to `op: add`")
        return self


class ActionSpec(StrictModel):
    """An action on a channel. Its name identifies it in the ledger."""

    action: IdentifierName
    channel: ChannelName
    purpose: Literal["marketing", "transactional"] = "marketing"
    destination: IdentifierName | None = None
    """The name of the destination to which the message goes."""
    content: ContentRequest | None = None
    mail: EmailTemplate | None = None
    text: Template | None = None
    """The text of a message to a destination."""
    data: dict[str, Template] = {}
    """Fields of a message to a destination."""
    audience: AdAudience | None = None

    @model_validator(mode="after")
    def _check_channel_fields(self) -> "ActionSpec":
        if self.channel == "email":
            if self.mail is None or self.text is not None or self.data or self.destination:
                raise ValueError("an e-mail action has `mail`, and no destination, text or data")
        elif (self.channel == "audience") != (self.audience is not None):
            raise ValueError("an action has `audience` if, and only if, its channel is `audience`")
        elif self.audience is not None and (self.text is not None or self.data or self.content):
            raise ValueError(
                "an audience action has fixed data: remove `text`, `data` and `content`"
            )
        elif self.mail is not None or (self.destination is None) != (self.channel == "kafka"):
            rule = "no `destination`" if self.channel == "kafka" else "a `destination`"
            raise ValueError(f"a {self.channel} action has {rule}, and no `mail`")
        return self
