"""Facts of a contact as they follow from its published events, for simulation."""

import msgspec

from libs.common.messages import CompellingEvent, Signal, StageChange
from services.orchestrator.domain.contact_facts import ContactFacts, CycleFacts, DecayingScore
from services.orchestrator.domain.cycle_vocabulary import CycleVocabularies
from services.orchestrator.domain.entry_cause import TriggerEvent

_CONSENT = {"consent_granted": True, "consent_withdrawn": False}


def facts_after(
    facts: ContactFacts, event: TriggerEvent, vocabulary: CycleVocabularies
) -> ContactFacts:
    """Return the facts after an event."""
    if isinstance(event, Signal):
        signals = {
            **facts.signals,
            event.signal: [*facts.signals.get(event.signal, ()), event.occurred_at],
        }
        consents = facts.consents
        if event.signal in _CONSENT:
            consents = {**consents, "marketing": _CONSENT[event.signal]}
        return msgspec.structs.replace(
            facts, signals=signals, consents=consents, last_act=event.occurred_at
        )
    if isinstance(event, CompellingEvent):
        ended = {event.kind} if event.status in ("withdrawn", "expired") else set()
        return msgspec.structs.replace(facts, events=(facts.events | {event.kind}) - ended)
    standings = {
        **facts.standings,
        event.cycle: _cycle_facts_after(event, facts.standings.get(event.cycle), vocabulary),
    }
    last_act = event.occurred_at if event.cause.kind == "touchpoint" else facts.last_act
    return msgspec.structs.replace(facts, standings=standings, last_act=last_act)


def _cycle_facts_after(
    event: StageChange, before: CycleFacts | None, vocabulary: CycleVocabularies
) -> CycleFacts:
    """Return the facts of a cycle after a stage change."""
    names = vocabulary.cycles.get(event.cycle)
    axes = {
        **(before.axes if before else {}),
        **{name: axis.to for name, axis in event.axes.items()},
    }
    if names is None:
        return CycleFacts(event.stage.to, event.dormant, axes)
    scores = {
        name: DecayingScore(value, event.occurred_at, names.half_lives[name])
        for name, value in event.values.items()
        if name in names.half_lives
    }
    return CycleFacts(
        event.stage.to,
        event.dormant,
        axes,
        scores,
        names.ladders,
        names.rings.get(event.stage.to, 0),
    )
