"""Whether the fold runs compiled, and that a compiled one is the one of this source."""

from hashlib import sha256
from pathlib import Path

from libs.common.errors import ConfigurationError

DOMAIN = Path(__file__).parent / "domain"
MODULES = (
    "assignment",
    "checkpoint",
    "classify",
    "conditions",
    "decay",
    "engine",
    "fold",
    "identity",
    "progress",
    "state",
)
RECORD = DOMAIN / "compiled_from.txt"


def source_hash() -> str:
    """Return the SHA-256 of the sources that are compiled."""
    return sha256(b"".join((DOMAIN / f"{name}.py").read_bytes() for name in MODULES)).hexdigest()


def how() -> str:
    """Return 'compiled' or 'uncompiled'.

    Raises ConfigurationError when the compiled fold is not that of the source: Python would run the old one silently.
    """
    if not any(DOMAIN.glob("fold.*.so")):
        return "uncompiled"
    if not RECORD.exists() or RECORD.read_text() != source_hash():
        raise ConfigurationError("the compiled fold is not that of its source: run 'make setup'")
    return "compiled"
