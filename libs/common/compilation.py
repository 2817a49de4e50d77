"""Groups of modules compiled by mypyc, and the check that the extension modules fit the source.

Without a C compiler the same source runs uncompiled. `deploy/compile/build.py` compiles.
"""

from hashlib import sha256
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

from libs.common.errors import ConfigurationError

PROJECT = Path(__file__).resolve().parents[2]


class CompiledModules:
    """Modules that are compiled together, by dotted name; `name` stands in error messages."""

    def __init__(self, name: str, modules: tuple[str, ...], project: Path = PROJECT) -> None:
        self.name = name
        self.sources = [Path(*module.split(".")).with_suffix(".py") for module in modules]
        """Paths relative to the project."""
        self.record = project / f"perigee_{name}_compiled_from.txt"
        self._project = project

    def source_hash(self) -> str:
        """Return the SHA-256 of the sources."""
        return sha256(
            b"".join((self._project / source).read_bytes() for source in self.sources)
        ).hexdigest()

    def _is_compiled(self, source: Path) -> bool:
        return any(
            (self._project / source).with_suffix(suffix).exists() for suffix in EXTENSION_SUFFIXES
        )

    def mode(self) -> str:
        """Return 'compiled' or 'uncompiled'.

        Raises ConfigurationError when the extension modules were compiled from another source:
        Python would silently run the old code. Extension modules of another interpreter version
        are ignored.
        """
        compiled = [self._is_compiled(source) for source in self.sources]
        if not any(compiled):
            return "uncompiled"
        if (
            not all(compiled)
            or not self.record.exists()
            or self.record.read_text() != self.source_hash()
        ):
            raise ConfigurationError(
                f"the compiled {self.name} does not fit its source: run 'make setup'"
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
"""The Kafka publisher, which every service uses."""
