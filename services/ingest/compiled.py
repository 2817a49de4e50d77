"""The part of ingest that is compiled: how plain calls are read and written."""

from libs.common.compilation import CompiledModules

_DOMAIN = ("fast", "instant_bytes", "json_bytes", "names", "plain", "recent", "records")
DOOR = CompiledModules("door", tuple(f"services.ingest.domain.{name}" for name in _DOMAIN))
