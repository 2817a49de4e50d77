"""An active cycle: the compiled cycle and its signal classifier, ready to fold."""

import msgspec

from services.scoring.domain.compiled_cycle import CompiledCycle
from services.scoring.domain.cycle_compiler import compile_cycle
from services.scoring.domain.cycle_spec import CycleSpec
from services.scoring.domain.signal_classifier import SignalClassifier


class ActiveCycle(msgspec.Struct, frozen=True):
    """A compiled cycle and its classifier; a shadow (not `live`) is folded and never published."""

    engine: CompiledCycle
    classifier: SignalClassifier
    live: bool = True

    @property
    def is_account_cycle(self) -> bool:
        """Return whether the cycle's subjects are accounts and not contacts."""
        return self.engine.spec.subject == "account"


def build_cycle(spec: CycleSpec, *, live: bool = True) -> ActiveCycle:
    """Compile a cycle. Raises ConfigurationError naming the place that cannot be compiled."""
    compiled = compile_cycle(spec)
    return ActiveCycle(compiled, SignalClassifier(spec, compiled.trait_names), live)
