"""A play as a marketer writes it (YAML): a trigger, and the steps that follow."""

from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from libs.common.durations import Duration
from libs.common.errors import ConfigurationError
from libs.common.messages import Signal, StageChange
from libs.common.messages.stage_change import ORDINARY, Direction
from services.orchestrator.domain.template import Template


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class StageTrigger(_Model):
    """A move in a cycle; what is not given does not matter."""

    cycle: str
    to: str | None = None
    from_: str | None = Field(None, alias="from")
    direction: Direction | None = None


class Trigger(_Model):
    """What starts a play: a published signal, or a stage change with an ordinary reason."""

    signal: str | None = None
    stage_change: StageTrigger | None = None

    @model_validator(mode="after")
    def _just_one(self) -> "Trigger":
        if (self.signal is None) == (self.stage_change is None):
            raise ValueError("exactly one of signal, stage_change is needed")
        return self


class Mail(_Model):
    """What an e-mail says; Liquid templates over `contact` and `event`."""

    subject: Template
    text: Template
    html: Template | None = None


class Step(_Model):
    """One step: an action on a channel."""

    name: str
    channel: Literal["email"]
    purpose: Literal["marketing", "transactional"] = "marketing"
    wait: Duration = 0
    mail: Mail


class Play(_Model):
    """A whole play. `re_entry: never` enrols a contact once, for all causes together."""

    play: str
    version: str
    kind: Literal["broadcast", "segment", "automated", "predictive"] = "automated"
    trigger: Trigger
    max_age: Duration = 86_400_000_000
    re_entry: Literal["never", "always"] = "never"
    holdout: float = Field(0.0, ge=0, lt=1)
    steps: list[Step] = Field(min_length=1)

    def starts_on(self, event: Signal | StageChange, now: int) -> bool:
        """Return whether the event starts this play: it fits, it is no history, and it is young enough."""
        if now - event.occurred_at > self.max_age:
            return False
        if isinstance(event, Signal):
            return event.signal == self.trigger.signal and not event.historical
        wanted = self.trigger.stage_change
        return (
            wanted is not None
            and event.reason in ORDINARY
            and event.cycle == wanted.cycle
            and wanted.to in (None, event.stage.to)
            and wanted.from_ in (None, event.stage.from_)
            and wanted.direction in (None, event.direction)
        )


def parse(text: str, where: str) -> Play:
    """Read a play file. Raises ConfigurationError naming the file and the place in it."""
    try:
        return Play.model_validate(yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{where}: not YAML: {error}") from None
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'play'}: {e['msg']}" for e in error.errors())
        raise ConfigurationError(f"{where}: {faults}") from None
