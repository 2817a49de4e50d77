"""Parts that mypyc compiles where a C compiler is there: whether they run compiled, and that what runs is of this source.

The same source runs uncompiled. `deploy/compile/build.py` compiles.
"""

from hashlib import sha256
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

from libs.common.errors import ConfigurationError

PROJECT = Path(__file__).resolve().parents[2]


class CompiledModules:
    """Modules that are compiled together, by their dotted names; `name` says in a sentence what they are."""

    def __init__(self, name: str, modules: tuple[str, ...], project: Path = PROJECT) -> None:
        self.name = name
        self.sources = [Path(*module.split(".")).with_suffix(".py") for module in modules]
        """As they lie in the project."""
        self.record = project / f"perigee_{name}_compiled_from.txt"
        self._project = project

    def source_hash(self) -> str:
        """Return the SHA-256 of the sources that are compiled."""
        return sha256(
            b"".join((self._project / source).read_bytes() for source in self.sources)
        ).hexdigest()

    def _is_compiled(self, source: Path) -> bool:
        return any(
            (self._project / source).with_suffix(suffix).exists() for suffix in EXTENSION_SUFFIXES
        )

    def mode(self) -> str:
        """Return 'compiled' or 'uncompiled'.

        Raises ConfigurationError when what is compiled is not of the source: Python would run the old one silently. What another
        interpreter left is nothing to this one.
        """
        found = [self._is_compiled(source) for source in self.sources]
        if not any(found):
            return "uncompiled"
        if (
            not all(found)
            or not self.record.exists()
            or self.record.read_text() != self.source_hash()
        ):
            raise ConfigurationError(
                f"the compiled {self.name} is not that of its source: run 'make setup'"
            )
        return "compiled"


_PUBLISHER = (
    "kafka.accumulator",
    "kafka.wire.encoded_record",
    "kafka.wire.record_batch",
    "partitioner",
)
PUBLISHER_MODULES = CompiledModules(
    "publisher", tuple(f"libs.common.{name}" for name in _PUBLISHER)
)
"""What every service has."""
