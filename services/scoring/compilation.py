"""Modules of scoring that mypyc compiles: the fold and identity resolution."""

from libs.common.compilation import CompiledModules

_DOMAIN = (
    "assignment", "compiled_cycle", "condition_nodes", "fold", "fold_state", "fold_step",
    "identity", "signal_classifier", "state_snapshot",
)  # fmt: skip
FOLD_MODULES = CompiledModules(
    "fold", ("libs.common.decay", *(f"services.scoring.domain.{name}" for name in _DOMAIN))
)
