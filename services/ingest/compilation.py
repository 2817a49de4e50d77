"""The part of ingest that is compiled: how plain calls are read and written."""

from libs.common.compilation import CompiledModules

_FASTPATH = ("encoder", "instant_scanner", "json_scanner", "name_table", "parser", "record_writer")
FAST_PATH_MODULES = CompiledModules(
    "fastpath",
    (
        "services.ingest.domain.deduplication_window",
        *(f"services.ingest.fastpath.{name}" for name in _FASTPATH),
    ),
)
