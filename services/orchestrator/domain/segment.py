"""A segment: a named, live condition."""

from pydantic import BaseModel, ConfigDict, Field

from services.orchestrator.domain.condition import Condition


class Segment(BaseModel):
    """Who belongs to it: those for whom the condition holds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    segment: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,59}$")
    description: str = ""
    when: Condition
