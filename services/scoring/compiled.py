"""The part of scoring that is compiled: the fold."""

from libs.common.compilation import CompiledModules

_DOMAIN = (
    "assignment", "checkpoint", "classify", "conditions", "decay", "engine", "fold", "identity", "progress", "state",
)  # fmt: skip
FOLD = CompiledModules("fold", tuple(f"services.scoring.domain.{name}" for name in _DOMAIN))
