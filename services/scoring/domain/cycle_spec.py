"""The specification of a cycle (YAML), validated field by field."""

from hashlib import blake2b
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from libs.common.conditions import Condition
from libs.common.durations import Duration


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ScoreSpec(_Model):
    """A decaying sum: its value halves every `half_life`."""

    half_life: Duration


class SignalMatch(_Model):
    """The touchpoints that a signal matches: all given fields must match.

    By default only observed touchpoints on the contact's initiative match. A property matches a
    value, a range of numbers `{at_least: …, at_most: …}` (`sentiment: {at_most: -0.5}`), or
    `{known: true}`: any value.
    """

    type: Literal["track", "identify", "page", "screen", "group", "alias"] | None = None
    name: str | None = None
    initiative: Literal["contact", "brand", "market"] = "contact"
    evidence: Literal["observed", "declared"] = "observed"
    trust: Literal["server"] | None = None
    consent: dict[str, bool] = {}
    identified: bool | None = None
    properties: dict[str, Any] = {}


class ContributionSpec(_Model):
    """What a signal adds to a score, and the most it may add per UTC day of `occurred_at`."""

    score: str
    points: float
    cap: float | None = Field(None, gt=0)


class CompellingEventSpec(_Model):
    """A compelling event. `date` names the property with its deadline (RFC 3339)."""

    kind: str = Field(pattern=r"^[A-Za-z0-9_.-]{1,60}$")
    owner: str = ""
    consequence: str = ""
    date: str = ""


class SignalSpec(_Model):
    """A signal: the touchpoints that it matches, its contributions, the event that it raises."""

    match: list[SignalMatch] = Field(min_length=1)
    adds: list[ContributionSpec] = []
    publish: bool = False
    raises: CompellingEventSpec | None = None

    @model_validator(mode="after")
    def _is_published(self) -> "SignalSpec":
        if self.raises is not None and not self.publish:
            raise ValueError("a signal that raises an event needs `publish: true`")
        return self


class AxisStageSpec(_Model):
    """A stage of an axis. The first has no condition; `stay` is looser than `enter`."""

    name: str
    enter: Condition | None = None
    stay: Condition | None = None
    dwell: Duration | None = None
    raises: CompellingEventSpec | None = None
    """The event that entry raises; a pattern (three pricing views in a week) is its own axis."""


class AxisSpec(_Model):
    """An axis: an ordered list of stages."""

    name: str
    stages: list[AxisStageSpec] = Field(min_length=1)


class StageSpec(_Model):
    """An engagement stage. Ring 0 is the outermost."""

    name: str
    ring: int = Field(ge=0)
    label: dict[str, str] = {}
    owner: str = ""
    guiding_question: str = ""
    metric: str = ""
    target: float | None = None
    crm_map: dict[str, str] = {}
    """The stage's names in other systems, by system; part of every stage change."""


class RepeatSpec(_Model):
    """The signal that opens the next cycle instance, from the ring of `from_stage` inwards."""

    signal: str
    from_stage: str


class CycleSpec(_Model):
    """An engagement cycle."""

    cycle: str = Field(pattern=r"^[A-Za-z0-9_.-]{1,60}$")
    version: str = Field(pattern=r"^[A-Za-z0-9_.-]{1,60}$")
    subject: Literal["contact", "account"] = "contact"
    """The subject of its positions: contacts, or accounts by the touchpoints of their members."""
    reaction_window: Duration = 3_600_000_000
    scores: dict[str, ScoreSpec]
    signals: dict[str, SignalSpec]
    axes: list[AxisSpec] = Field(min_length=2)
    stages: list[StageSpec] = Field(min_length=1)
    map: dict[str, dict[str, str]]
    """{sales stage: {buying stage: engagement stage}}"""
    dormant: Condition
    repeat: RepeatSpec | None = None

    @model_validator(mode="after")
    def _map_is_whole(self) -> "CycleSpec":
        axes = {axis.name: [stage.name for stage in axis.stages] for axis in self.axes}
        missing = {"sales", "buying"} - axes.keys()
        if missing:
            raise ValueError(f"axes: {', '.join(sorted(missing))} is missing")
        stages = {stage.name for stage in self.stages}
        for sales in axes["sales"]:
            for buying in axes["buying"]:
                cell = self.map.get(sales, {}).get(buying)
                if cell not in stages:
                    raise ValueError(
                        f"map.{sales}.{buying}: {cell or 'no stage'}, "
                        "where a stage of `stages` is needed"
                    )
        return self


def spec_fingerprint(spec: CycleSpec) -> bytes:
    """Return a digest of the parts that the fold depends on.

    Labels, owners, the reaction window and raised events change no state, so they are left out.
    """
    labels = {"label", "owner", "guiding_question", "metric", "target"}
    stages = dict.fromkeys(range(len(spec.stages)), labels)
    places = {number: {"stages": {"__all__": {"raises"}}} for number in range(len(spec.axes))}
    signals = {name: {"raises"} for name in spec.signals}
    raw = spec.model_dump_json(
        exclude={"reaction_window": True, "stages": stages, "axes": places, "signals": signals}
    )
    return blake2b(raw.encode(), digest_size=16).digest()
