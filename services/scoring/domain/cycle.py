"""A live cycle, ready to fold."""

import msgspec

from services.scoring.domain.classify import Classifier
from services.scoring.domain.compile import compile_cycle
from services.scoring.domain.engine import Engine
from services.scoring.domain.spec import CycleSpec


class Cycle(msgspec.Struct, frozen=True):
    """An engine and the classifier that finds its signals. What a shadow folds is stored, and told to nobody."""

    engine: Engine
    classifier: Classifier
    live: bool = True

    @property
    def of_accounts(self) -> bool:
        """Return whether it is a cycle of accounts and not of contacts."""
        return self.engine.spec.subject == "account"


def cycle_of(spec: CycleSpec, *, live: bool = True) -> Cycle:
    """Compile a cycle. Raises ConfigurationError naming the place that cannot be compiled."""
    engine = compile_cycle(spec)
    return Cycle(engine, Classifier(spec, engine.trait_names), live)
