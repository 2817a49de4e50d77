"""The part of scoring that is compiled: the fold."""

from libs.common.compiled import Part

_DOMAIN = (
    "assignment", "checkpoint", "classify", "conditions", "decay", "engine", "fold", "identity", "progress", "state",
)  # fmt: skip
FOLD = Part("fold", tuple(f"services.scoring.domain.{name}" for name in _DOMAIN))
