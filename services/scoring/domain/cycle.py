"""A live cycle, ready to fold."""

import msgspec

from services.scoring.domain.classify import Classifier
from services.scoring.domain.compile import compile_cycle
from services.scoring.domain.engine import Engine
from services.scoring.domain.spec import CycleSpec


class Cycle(msgspec.Struct, frozen=True):
    """An engine and the classifier that finds its signals."""

    engine: Engine
    classifier: Classifier


def cycle_of(spec: CycleSpec) -> Cycle:
    """Compile a cycle. Raises ConfigurationError naming the place that cannot be compiled."""
    engine = compile_cycle(spec)
    return Cycle(engine, Classifier(spec, engine.trait_names))
