"""A live cycle, ready to fold."""

import msgspec

from services.scoring.domain.compiled_cycle import CompiledCycle
from services.scoring.domain.cycle_compiler import compile_cycle
from services.scoring.domain.cycle_spec import CycleSpec
from services.scoring.domain.signal_classifier import SignalClassifier


class ActiveCycle(msgspec.Struct, frozen=True):
    """An engine and the classifier that finds its signals. What a shadow folds is stored, and told to nobody."""

    engine: CompiledCycle
    classifier: SignalClassifier
    live: bool = True

    @property
    def is_account_cycle(self) -> bool:
        """Return whether it is a cycle of accounts and not of contacts."""
        return self.engine.spec.subject == "account"


def build_cycle(spec: CycleSpec, *, live: bool = True) -> ActiveCycle:
    """Compile a cycle. Raises ConfigurationError naming the place that cannot be compiled."""
    engine = compile_cycle(spec)
    return ActiveCycle(engine, SignalClassifier(spec, engine.trait_names), live)
