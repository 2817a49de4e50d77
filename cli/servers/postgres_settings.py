"""Settings of PostgreSQL for scoring's load: many small updates, and durable commits.

Measured on scoring's writes (docs/benchmarks.md): compressing full-page images by pglz cost more
than all other settings together; an image less often (fewer checkpoints) is the next best thing.
"""

from collections.abc import Mapping

GIGABYTE = 1 << 30
MAX_SHARED_BUFFERS = 8 * GIGABYTE
"""Beyond it PostgreSQL gains little over the cache of the kernel."""
MIN_SHARED_BUFFERS = 128 << 20
MAX_WAL = 8 * GIGABYTE
MIN_WAL = GIGABYTE


def recommended_settings(memory: int, free_disk: int, *, has_lz4: bool) -> dict[str, str]:
    """Return the settings for a machine of `memory` bytes with `free_disk` bytes for the data.

    The write-ahead log may take a tenth of the free disk.
    """
    buffers = min(max(memory // 4, MIN_SHARED_BUFFERS), MAX_SHARED_BUFFERS)
    wal = min(max(free_disk // 10, MIN_WAL), MAX_WAL)
    return {
        "shared_buffers": f"{buffers >> 20}MB",
        "max_wal_size": f"{wal >> 20}MB",
        "checkpoint_timeout": "30min",
        "wal_compression": "lz4" if has_lz4 else "off",
    }


SETTINGS_QUERY = """SELECT name, CASE unit WHEN '8kB' THEN setting::float * 8192
 WHEN 'MB' THEN setting::float * 1048576 WHEN 's' THEN setting::float END AS number, setting
FROM pg_settings WHERE name IN ('shared_buffers', 'max_wal_size', 'checkpoint_timeout',
 'wal_compression', 'fsync', 'full_page_writes', 'synchronous_commit')"""
"""Rows (name, number in bytes or seconds where the setting has a unit, text)."""
_LEAST = {"shared_buffers": 256 << 20, "max_wal_size": 2 * GIGABYTE, "checkpoint_timeout": 900}
_CURES = {
    "shared_buffers": "set shared_buffers to a quarter of the server's memory",
    "max_wal_size": "set max_wal_size to 8GB",
    "checkpoint_timeout": "set checkpoint_timeout to 30min",
    "wal_compression": "set wal_compression to lz4, or off where the server lacks it",
    "fsync": "set fsync to on: a crash of the machine loses touchpoints",
    "full_page_writes": "set full_page_writes to on: a crash of the machine may destroy pages",
    "synchronous_commit": "set synchronous_commit to on: a crash of the server loses touchpoints",
}
_DURABLE = ("fsync", "full_page_writes", "synchronous_commit")


def list_cures(settings: Mapping[str, tuple[float | None, str]]) -> list[str]:
    """Return the changes that a server needs, given the rows of SETTINGS_QUERY by name.

    The memory of a server elsewhere is unknown: the least sizes are those of a small machine.
    """
    return [
        cure for name, cure in _CURES.items() if name in settings and _is_bad(name, *settings[name])
    ]


def _is_bad(name: str, number: float | None, text: str) -> bool:
    if name in _DURABLE:
        return text in ("off", "local")
    if name == "wal_compression":
        return text in ("on", "pglz")
    return number is not None and number < _LEAST[name]
